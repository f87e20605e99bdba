"""Leases that are kept while a program runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from resolver.leases.model import Claim
from resolver.leases.owner import here, myself
from resolver.leases.scope import current
from resolver.leases.store import open_store
from resolver.model import PortNumber, Transport
from resolver.reservations.holding.running import Leases
from resolver.settings import RENEW_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.leases.model import Lease
    from resolver.protocols import LeaseStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LeaseStore]:
    opened = open_store({"ULTRA_PORTS_STATE": str(tmp_path)}, tmp_path)
    yield opened
    opened.close()


def lease(store: LeaseStore, ttl_seconds: float | None) -> Lease:
    owner = myself(here(os.environ))
    [granted] = store.acquire(
        [
            Claim(
                scope=current(os.environ),
                port=PortNumber(8085),
                transport=Transport.TCP,
                address=None,
                service="api",
                project="shop",
                owner=owner,
                ttl_seconds=ttl_seconds,
            )
        ]
    )
    return granted


def test_what_lives_with_its_owner_needs_no_renewal(store: LeaseStore) -> None:
    said: list[str] = []
    granted = lease(store, None)
    leases = Leases([granted], store, said.append)

    assert bool(leases.keep()) == (granted.expires_at is not None)  # as in another PID namespace
    leases.release()

    assert (store.leases(), said) == ((), [])


def test_what_has_an_end_is_renewed_in_time(store: LeaseStore) -> None:
    said: list[str] = []
    times = [0.0]
    granted = lease(store, 60.0)
    leases = Leases([granted], store, said.append, lambda: times[-1])
    times.append(RENEW_SECONDS / 2)
    assert leases.keep() == RENEW_SECONDS / 2
    assert store.leases() == (granted,)

    times.append(RENEW_SECONDS)
    next_time = leases.keep()

    [renewed] = store.leases()
    assert next_time == (0 if renewed.expires_at is None else RENEW_SECONDS)
    assert renewed.token == granted.token
    assert renewed != granted


def test_a_lost_lease_is_told_once(store: LeaseStore) -> None:
    said: list[str] = []
    times = [0.0]
    granted = lease(store, 60.0)
    leases = Leases([granted], store, said.append, lambda: times[-1])
    store.release([granted])
    times.append(RENEW_SECONDS)

    assert leases.keep() == 0
    assert leases.keep() == 0

    [line] = said
    assert line.startswith("the lease on 8085/tcp is lost")
