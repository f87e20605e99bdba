"""Somebody else takes a port between choosing it and leasing it."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from resolver.errors import ReservedError
from resolver.leases import scope
from resolver.leases.model import Claim
from resolver.leases.owner import here
from resolver.leases.stores.ledger import Ledger
from resolver.model import PortNumber, PortRequest, Transport
from resolver.reservations.allocate import allocate
from resolver.reservations.requests import ServiceRequest
from resolver.reservations.terms import Terms
from tests.lab.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from resolver.leases.model import Lease


class Overtaken(Ledger):
    """A ledger in which a rival, if there is one, is quicker by a moment."""

    rival: Claim | None = None

    def acquire(self, claims: Sequence[Claim]) -> tuple[Lease, ...]:
        """As ever, but later."""
        if self.rival is not None:
            quicker, self.rival = self.rival, None
            super().acquire([quicker])
        return super().acquire(claims)


def request(port: int) -> ServiceRequest:
    return ServiceRequest("api", "API_PORT", (PortRequest(PortNumber(port)),))


def test_what_the_project_had_is_not_lost_with_the_race(tmp_path: Path) -> None:
    had, wanted = free_port(), free_port()
    terms = Terms(scope.machine_scope(os.environ), "shop", str(tmp_path), use_docker=False)
    with closing(Overtaken(tmp_path / "leases.db", here(os.environ))) as store:
        allocate([request(had)], terms, store)
        [before] = store.leases()

        store.rival = Claim(
            terms.scope, PortNumber(wanted), Transport.TCP, None, "x", "rival", ttl_seconds=600
        )
        with pytest.raises(ReservedError, match="project rival"):
            allocate([request(wanted)], replace(terms, strict=True, reassign=True), store)

        after = {lease.project: lease for lease in store.leases()}
    assert {name: lease.port for name, lease in after.items()} == {"shop": had, "rival": wanted}
    assert before.expires_at is not None
    assert after["shop"].expires_at == pytest.approx(before.expires_at, abs=30)
