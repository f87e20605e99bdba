"""Somebody else takes a port between choosing it and leasing it."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
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
from resolver.reservations.bind import bound
from resolver.reservations.requests import ServiceRequest
from resolver.reservations.terms import Terms
from tests.lab.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from resolver.leases.model import Lease


class Overtaken(Ledger):
    """A ledger in which rivals, if there are any, are quicker by a moment."""

    rivals: Sequence[Claim] = ()

    def acquire_first(self, claims: Iterable[Claim]) -> tuple[Lease | None, tuple[Lease, ...]]:
        """As ever, but later."""
        quicker, self.rivals = self.rivals, ()
        self.acquire(quicker)
        return super().acquire_first(claims)


def request(*ports: int) -> ServiceRequest:
    return ServiceRequest("api", "API_PORT", tuple(PortRequest(PortNumber(p)) for p in ports))


def rival(terms: Terms, port: int) -> Claim:
    number = PortNumber(port)
    return Claim(terms.scope, number, Transport.TCP, None, "x", "rival", ttl_seconds=600)


@pytest.mark.parametrize("got", [2, 3])
def test_who_loses_the_first_of_a_range_has_the_next_that_is_free(tmp_path: Path, got: int) -> None:
    """And nothing is left of a lease on one that turns out to be held."""
    ports = [free_port() for _ in range(4)]
    terms = Terms(scope.machine_scope(os.environ), "shop", str(tmp_path), use_docker=False)
    with closing(Overtaken(tmp_path / "leases.db", here(os.environ))) as store, ExitStack() as held:
        store.acquire([rival(terms, ports[1])])
        store.rivals = [rival(terms, ports[0])]
        wanted = request(*ports)
        for each in wanted.options[2:got]:
            held.enter_context(bound(each))
        (found,) = allocate([wanted], replace(terms, strict=True), store)
        assert found.request == wanted.options[got]
        assert "is reserved for x of project rival" in found.notes[0]
        assert [each for each in store.leases() if each.project == "shop"] == [found.lease]


def test_what_can_make_way_after_all_is_taken_before_a_later_one(tmp_path: Path) -> None:
    """Of a service of the same call, which somebody else has just reserved for it."""
    ports = [free_port() for _ in range(4)]
    terms = Terms(scope.machine_scope(os.environ), "shop", str(tmp_path), use_docker=False)
    with closing(Overtaken(tmp_path / "leases.db", here(os.environ))) as store:
        web = ServiceRequest("web", "WEB_PORT", request(ports[3]).options)
        claim = terms.claim(request(ports[1]).preferred, "web", 600)
        store.rivals = [rival(terms, ports[0]), claim]
        found = allocate([request(*ports[:3]), web], replace(terms, reassign=True), store)
        assert [each.request.port for each in found] == [ports[1], ports[3]]
        ours = [each for each in store.leases() if each.project == "shop"]
        assert {each.port for each in ours} == {ports[1], ports[3]}


def test_what_the_project_had_is_not_lost_with_the_race(tmp_path: Path) -> None:
    had, wanted = free_port(), free_port()
    terms = Terms(scope.machine_scope(os.environ), "shop", str(tmp_path), use_docker=False)
    with closing(Overtaken(tmp_path / "leases.db", here(os.environ))) as store:
        allocate([request(had)], terms, store)
        [before] = store.leases()

        store.rivals = [rival(terms, wanted)]
        with pytest.raises(ReservedError, match="project rival"):
            allocate([request(wanted)], replace(terms, strict=True, reassign=True), store)

        after = {lease.project: lease for lease in store.leases()}
    assert {name: lease.port for name, lease in after.items()} == {"shop": had, "rival": wanted}
    assert before.expires_at is not None
    assert after["shop"].expires_at == pytest.approx(before.expires_at, abs=30)
