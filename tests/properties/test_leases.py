"""Three stores do the same: the ledger, the one in memory, and a plain model of a dozen lines."""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from resolver.errors import ReservedError
from resolver.leases.model import Claim, Lease, Owner
from resolver.leases.owner import here, myself, owner_of
from resolver.leases.rules import Moment
from resolver.leases.state import COPIES
from resolver.leases.stores.ledger import Ledger
from resolver.model import Pid, PortNumber, Transport
from resolver.settings import LEASE_SECONDS

HERE = here({})
ME = myself(HERE)
PARENT = owner_of(os.getppid(), HERE)
DEAD = Owner(HERE.boot, HERE.pid_namespace, ME.pid, ME.start_time + 1)
FOREIGN = Owner(HERE.boot, "pid:[1]", Pid(1), 1)
REBOOTED = Owner("an earlier boot", HERE.pid_namespace, Pid(1), 1)
ENGINE = "engine:X"

if TYPE_CHECKING:
    from resolver.protocols import LeaseStore

# Every address that a server could be reached at, for this test; what an endpoint stands for
HOSTS = frozenset({"127.0.0.1", "127.0.0.2", "another IPv4", "::1", "another IPv6"})
REACH = {
    None: HOSTS,
    "::": HOSTS,
    "0.0.0.0": frozenset({"127.0.0.1", "127.0.0.2", "another IPv4"}),
    "127.0.0.1": frozenset({"127.0.0.1"}),
    "127.0.0.2": frozenset({"127.0.0.2"}),
    "::1": frozenset({"::1"}),
}

CLAIMS = st.builds(
    Claim,
    scope=st.sampled_from([HERE.host_scope, HERE.host_scope, ENGINE]),
    port=st.sampled_from([PortNumber(8085), PortNumber(8086)]),
    transport=st.sampled_from(Transport),
    address=st.sampled_from(list(REACH)),
    service=st.sampled_from(["api", "web"]),
    project=st.sampled_from(["shop", "blog"]),
    place=st.sampled_from(["/usr", "/etc"]),  # which are there
    owner=st.sampled_from([None, ME, PARENT, DEAD, FOREIGN, REBOOTED]),
    ttl_seconds=st.sampled_from([None, 10.0, 100.0]),
).map(lambda claim: claim if claim.owner else Claim(**fields(claim) | {"ttl_seconds": 50.0}))


def fields(claim: Claim) -> dict[str, Any]:
    return {name: getattr(claim, name) for name in Claim.__struct_fields__}


@dataclass
class Row:
    """The model's lease."""

    claim: Claim
    ends: float | None

    def lives(self, now: float) -> bool:
        rebooted = self.claim.owner == REBOOTED and self.claim.scope == HERE.host_scope
        dead = self.claim.owner == DEAD or rebooted
        return not dead and (self.ends is None or self.ends > now)

    @property
    def key(self) -> tuple[Any, ...]:
        """All that tells it apart from other leases, but for its token."""
        return key(self.claim)


def key(of: Claim | Lease) -> tuple[Any, ...]:
    names = ("scope", "transport", "port", "address", "service", "project", "place", "owner")
    return tuple(getattr(of, name) for name in names)


def service(claim: Claim) -> tuple[str, ...]:
    return (claim.scope, claim.project, claim.place, claim.service)


def meet(one: Claim, other: Claim) -> bool:
    same = (one.scope, one.transport, one.port) == (other.scope, other.transport, other.port)
    return same and bool(REACH[one.address] & REACH[other.address])


def hinders(row: Row, claim: Claim) -> bool:
    if not meet(row.claim, claim):
        return False
    owners = {row.claim.owner, claim.owner} - {None}
    return service(row.claim) != service(claim) or len(owners) > 1


class Stores(RuleBasedStateMachine):
    """Does everything four times, and compares."""

    granted = Bundle("granted")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.now, self.step = 1000.0, 1_800_000_000.0
        path = Path(self.folder.name)
        self.stores: tuple[LeaseStore, ...] = (
            Ledger(path / "leases.db", HERE, now=self.clock),
            Ledger(path / COPIES[0], HERE, now=self.clock),
            Ledger(None, HERE, now=self.clock),
        )
        self.rows: dict[tuple[int, ...], Row] = {}

    def teardown(self) -> None:
        self.folder.cleanup()

    def clock(self, boot: str) -> Moment:
        return Moment(self.step + self.now, boot, self.now)

    @rule(target=granted, claims=st.lists(CLAIMS, min_size=1, max_size=3))
    def acquire(self, claims: list[Claim]) -> Any:  # noqa: ANN401 - hypothesis's own
        refused = any(
            meet(one, other) for index, one in enumerate(claims) for other in claims[:index]
        ) or any(
            hinders(row, claim) and row.lives(self.now)
            for row in self.rows.values()
            for claim in claims
        )
        answers: list[tuple[Lease, ...]] = []
        for store in self.stores:
            with contextlib.suppress(ReservedError):
                answers.append(store.acquire(claims))
        assert len(answers) == (0 if refused else len(self.stores))
        if refused:
            return multiple()
        gone = [
            token
            for token, row in self.rows.items()
            for claim in claims
            if hinders(row, claim) or row.key == key(claim)
        ]
        for token in dict.fromkeys(gone):
            del self.rows[token]
        made = []
        for claim, *leases in zip(claims, *answers, strict=True):
            token = tuple(lease.token for lease in leases)
            self.rows[token] = Row(claim, self._end(claim.ttl_seconds, claim))
            made.append(tuple(leases))
        return multiple(*made)

    def _end(self, ttl: float | None, claim: Claim) -> float | None:
        if ttl is None:
            return self.now + LEASE_SECONDS if claim.scope == ENGINE else None
        return self.now + ttl

    @rule(leases=consumes(granted))
    def release(self, leases: tuple[Lease, ...]) -> None:
        row = self.rows.pop(tuple(lease.token for lease in leases), None)
        for store, lease in zip(self.stores, leases, strict=True):
            assert store.release([lease]) == ((lease,) if row else ())

    @rule(leases=granted, ttl=st.sampled_from([5.0, 200.0]))
    def renew(self, leases: tuple[Lease, ...], ttl: float) -> None:
        row = self.rows.get(tuple(lease.token for lease in leases))
        for store, lease in zip(self.stores, leases, strict=True):
            try:
                assert store.renew(lease, ttl).token == lease.token
                assert row is not None
            except ReservedError:
                assert row is None
        if row is not None:
            row.ends = self._end(ttl, row.claim)

    @rule()
    def prune(self) -> None:
        gone = {token: row for token, row in self.rows.items() if not row.lives(self.now)}
        for index, store in enumerate(self.stores):
            assert {lease.token for lease in store.prune()} == {token[index] for token in gone}
        for token in gone:
            del self.rows[token]

    @rule(seconds=st.sampled_from([1.0, 9.0, 60.0]))
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds

    @rule(seconds=st.sampled_from([-86_400.0, 86_400.0]))
    def somebody_sets_the_clock(self, seconds: float) -> None:
        self.step += seconds

    @invariant()
    def they_agree(self) -> None:
        living = sorted(str(row.key) for row in self.rows.values() if row.lives(self.now))
        for store in self.stores:
            leases = store.leases()
            assert sorted(str(key(lease)) for lease in leases) == living
            assert leases == tuple(
                sorted(leases, key=lambda each: (each.scope, each.transport, each.port, each.token))
            )
            assert store.leases(ENGINE) == tuple(each for each in leases if each.scope == ENGINE)


Stores.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestStores = Stores.TestCase
