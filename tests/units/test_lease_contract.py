"""What every store of leases promises: SQLite, copies that users share, memory and a real Redis."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from resolver.errors import ReservedError, UsageError
from resolver.leases.model import Claim, Owner
from resolver.leases.owner import here, myself, owner_of
from resolver.leases.state import COPIES
from resolver.leases.stores.ledger import Ledger
from resolver.leases.stores.redis_store import RedisStore
from resolver.model import Pid, PortNumber, Transport
from tests.lab.processes import wait_until
from tests.lab.redis import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.protocols import LeaseStore

HERE = here({})
SCOPE = HERE.host_scope
ME = myself(HERE)
PARENT = owner_of(os.getppid(), HERE)
ELSEWHERE = Owner("another boot", "pid:[1]", Pid(1), 1)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture(params=["sqlite", "shared", "memory", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LeaseStore]:
    made: LeaseStore
    if request.param in {"sqlite", "shared"}:
        made = Ledger(tmp_path / ("leases.db" if request.param == "sqlite" else COPIES[0]), HERE)
    elif request.param == "memory":
        made = Ledger(None, HERE)
    else:
        server = request.getfixturevalue("server")
        server.cli("flushall")
        made = RedisStore(server.url, HERE)
    with contextlib.closing(made):
        yield made


def claim(port: int = 8085, **changes: Any) -> Claim:  # noqa: ANN401 - any field of a claim
    fields: dict[str, Any] = {
        "scope": SCOPE,
        "port": PortNumber(port),
        "transport": Transport.TCP,
        "address": None,
        "service": "api",
        "project": "shop",
        "place": "/srv/shop",
        "owner": ME,
    }
    return Claim(**(fields | changes))


def dead_owner() -> Owner:
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as child:
        return owner_of(child.pid, HERE)


def test_a_lease_is_what_was_claimed(store: LeaseStore) -> None:
    before = time.time()
    [lease] = store.acquire([claim(8085, address="127.0.0.1", ttl_seconds=60, held=True)])

    assert (lease.scope, lease.port, lease.transport) == (SCOPE, 8085, Transport.TCP)
    assert (lease.address, lease.service, lease.project) == ("127.0.0.1", "api", "shop")
    assert (lease.place, lease.owner, lease.held) == ("/srv/shop", ME, True)
    assert lease.expires_at is not None
    assert abs(lease.created_at - before) < 60
    assert abs(lease.expires_at - lease.created_at - 60) < 1
    assert store.leases() == store.leases(SCOPE) == (lease,)
    assert store.leases("host:another") == ()


def test_names_may_hold_anything(store: LeaseStore) -> None:
    odd = 'a"b\\ {c}\n:%\udcff é\u2028 🐙'
    [lease] = store.acquire([claim(service=odd, project=odd, place=odd, scope=odd)])
    assert store.leases(odd) == store.leases() == (lease,)
    assert (lease.service, lease.project, lease.place, lease.scope) == (odd, odd, odd, odd)
    store.remember(odd, odd, odd, {odd: 8085})
    assert store.recall(odd, odd, odd) == {odd: 8085}
    assert store.release([lease]) == (lease,)


def test_somebody_elses_lease_is_in_the_way(store: LeaseStore) -> None:
    [lease] = store.acquire([claim(owner=PARENT)])
    for other in (
        claim(),
        claim(service="web"),
        claim(project="another", owner=PARENT),
        claim(place="/srv/worktree", owner=PARENT),
        claim(address="::1"),
    ):
        with pytest.raises(ReservedError, match="8085/tcp is reserved for api of project shop"):
            store.acquire([other])
    assert store.leases() == (lease,)


def test_what_does_not_collide_is_granted(store: LeaseStore) -> None:
    store.acquire([claim(address="127.0.0.1", owner=PARENT)])
    granted = [
        *store.acquire([claim(address="127.0.0.2")]),
        *store.acquire([claim(address="::1")]),
        *store.acquire([claim(transport=Transport.UDP)]),
        *store.acquire([claim(8086)]),
        *store.acquire([claim(scope="host:another")]),
    ]
    assert len(store.leases()) == 1 + len(granted)
    with pytest.raises(ReservedError):
        store.acquire([claim(service="web", address="0.0.0.0")])


def test_all_or_nothing(store: LeaseStore) -> None:
    [lease] = store.acquire([claim(8087, owner=PARENT)])
    with pytest.raises(ReservedError):
        store.acquire([claim(8085), claim(8086), claim(8087)])
    assert store.leases() == (lease,)
    granted = store.acquire([claim(8086), claim(8085, transport=Transport.UDP), claim(8085)])
    assert [(each.port, each.transport.value) for each in granted] == [
        (8086, "tcp"),
        (8085, "udp"),
        (8085, "tcp"),
    ]
    assert len({each.token for each in granted}) == 3


def test_the_first_that_can_be_is_granted(store: LeaseStore) -> None:
    [other] = store.acquire([claim(8085, owner=PARENT)])
    [another] = store.acquire([claim(8086, service="web", address="::1")])
    [own] = store.acquire([claim(8087)])
    claims = [claim(port) for port in (8085, 8086, 8087, 8088)]
    granted, hindering = store.acquire_first(iter(claims))
    assert granted is not None
    assert (granted.port, hindering) == (8087, (other, another))
    assert granted.token > own.token, "it takes the place of the own one"
    assert store.leases() == (other, another, granted)
    assert store.acquire_first(claims[:2]) == (None, (other, another))
    assert store.leases() == (other, another, granted)


def test_claims_in_each_others_way_are_refused(store: LeaseStore) -> None:
    with pytest.raises(ReservedError):
        store.acquire([claim(), claim(service="web", address="127.0.0.1")])
    assert store.leases() == ()
    assert store.acquire([]) == ()


def test_a_claim_without_owner_and_end_is_refused(store: LeaseStore) -> None:
    with pytest.raises(UsageError):
        store.acquire([claim(owner=None)])
    [lease] = store.acquire([claim(owner=None, ttl_seconds=60)])
    with pytest.raises(UsageError):
        store.renew(lease, None)


def test_the_same_claim_renews_its_lease(store: LeaseStore) -> None:
    [first] = store.acquire([claim(ttl_seconds=60)])
    [second] = store.acquire([claim(ttl_seconds=90)])
    assert second.token > first.token
    assert store.leases() == (second,)
    assert store.release([first]) == ()
    with pytest.raises(ReservedError):
        store.renew(first, 60)
    assert store.leases() == (second,)


def test_a_reservation_outlives_the_run_that_uses_it(store: LeaseStore) -> None:
    [reserved] = store.acquire([claim(owner=None, ttl_seconds=60)])
    [used] = store.acquire([claim()])
    assert set(store.leases()) == {reserved, used}
    assert store.release([used]) == (used,)
    assert store.leases() == (reserved,)


def test_a_dead_owners_lease_is_reclaimed(store: LeaseStore) -> None:
    [lost] = store.acquire([claim(8085, owner=dead_owner()), claim(8086)])[:1]
    assert [each.port for each in store.leases()] == [8086]
    [lease] = store.acquire([claim(8085, service="web", project="another")])
    assert lease in store.leases()
    assert store.release([lost]) == ()


def test_an_owner_who_cannot_be_judged_has_its_time(store: LeaseStore) -> None:
    [lease] = store.acquire([claim(owner=ELSEWHERE, scope="engine:x", ttl_seconds=60)])
    assert store.leases() == (lease,)
    with pytest.raises(ReservedError):
        store.acquire([claim(scope="engine:x", service="web")])


def test_an_earlier_boots_owner_is_dead(store: LeaseStore) -> None:
    store.acquire([claim(owner=ELSEWHERE, ttl_seconds=60)])
    assert store.leases() == ()
    store.acquire([claim(service="web")])


def test_what_has_expired_is_reclaimed(store: LeaseStore) -> None:
    store.acquire([claim(owner=None, ttl_seconds=0.2)])
    wait_until(lambda: store.leases() == (), "the lease expires", 5)
    [lease] = store.acquire([claim(service="web")])
    assert store.leases() == (lease,)


def test_renewing_gives_more_time(store: LeaseStore) -> None:
    [lease] = store.acquire([claim(ttl_seconds=5)])
    renewed = store.renew(lease, 600)
    assert renewed.token == lease.token
    assert renewed.expires_at is not None
    assert lease.expires_at is not None
    assert renewed.expires_at > lease.expires_at + 500
    assert [each.token for each in store.leases()] == [lease.token]
    shorter = store.renew(renewed, 0.2)
    wait_until(lambda: store.leases() == (), "the lease expires", 5)
    assert shorter.token == lease.token


def test_releasing_twice_ends_it_once(store: LeaseStore) -> None:
    leases = store.acquire([claim(8085), claim(8086), claim(8087, scope="host:another")])
    assert set(store.release(leases)) == set(leases)
    assert store.release(leases) == ()
    assert store.leases() == ()
    with pytest.raises(ReservedError, match="was lost"):
        store.renew(leases[0], 60)


def test_tokens_grow(store: LeaseStore) -> None:
    tokens = []
    for _ in range(5):
        [lease] = store.acquire([claim()])
        tokens.append(lease.token)
        store.release([lease])
    assert tokens == sorted(set(tokens))


def test_pruning_forgets_what_is_over(store: LeaseStore) -> None:
    [dead, alive] = store.acquire([claim(8085, owner=dead_owner()), claim(8086)])
    assert store.prune() == (dead,)
    assert store.prune() == ()
    assert store.leases() == (alive,)


def test_leases_are_sorted(store: LeaseStore) -> None:
    made = [claim(9000, scope="b"), claim(80, scope="b"), claim(8085, scope="a")]
    made.append(claim(80, scope="b", transport=Transport.UDP))
    for each in made:
        store.acquire([each])
    listed = [(each.scope, each.transport.value, each.port) for each in store.leases()]
    assert listed == [("a", "tcp", 8085), ("b", "tcp", 80), ("b", "tcp", 9000), ("b", "udp", 80)]


def test_the_last_ports_are_kept(store: LeaseStore) -> None:
    assert store.recall(SCOPE, "shop", "/srv/shop") == {}
    store.remember(SCOPE, "shop", "/srv/shop", {"api": 8085, "web": 3000})
    store.remember(SCOPE, "shop", "/srv/shop", {"web": 3001})
    store.remember(SCOPE, "shop", "/srv/shop", {})
    store.remember(SCOPE, "shop", "/srv/worktree", {"api": 8086})
    assert store.recall(SCOPE, "shop", "/srv/shop") == {"api": 8085, "web": 3001}
    assert store.recall(SCOPE, "shop", "/srv/worktree") == {"api": 8086}
    assert store.recall("host:another", "shop", "/srv/shop") == {}
