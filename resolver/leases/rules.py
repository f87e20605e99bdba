"""PURE: who may have a port, which leases have ended, and what comes of a call to a store.

Time is counted on two clocks. In the boot in which a lease was granted its end is judged by the
clock that no step of the wall clock moves; in another boot the wall clock is all there is. So a
clock that is set forward ends no lease, and one that is set back does not prolong any.
"""

from __future__ import annotations

from itertools import combinations, product
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import asdict, replace

from resolver.errors import ReservedError, UsageError
from resolver.leases.model import Claim, Entry, Lease, collide
from resolver.leases.owner import Here, is_dead, is_deserted
from resolver.leases.token_carriers import is_carried_on
from resolver.report.lease import service, whose
from resolver.settings import LEASE_SECONDS, RESERVATION_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolver.model import PortRequest

_STEP_SECONDS = 1.0  # a smaller difference of the clocks is their drift


class Moment(Struct, frozen=True):
    """Now, in seconds: since the epoch by the wall clock, and since the boot that is named."""

    wall: float
    boot: str
    since_boot: float


class LeasedError(ReservedError):
    """Somebody else's living `lease` is in the way."""

    def __init__(self, request: PortRequest, lease: Lease) -> None:
        super().__init__(f"{request} is reserved")
        self.lease = lease

    def __str__(self) -> str:  # which few read, of all those who look for a port
        return f"{super().__str__()} for {whose(self.lease)}"


def grant(
    claims: Sequence[Claim], known: Iterable[Entry], last_token: int, where: Here, now: Moment
) -> tuple[tuple[Lease, ...], tuple[Entry, ...]]:
    """Grants all the claims or none: the leases that a store has to forget, and what it keeps.

    Args:
        claims: what is wanted.
        known: at least every entry on the claims' ports.
        last_token: of the latest grant.
        where: what owners are compared with.
        now: the present.

    Raises:
        LeasedError: somebody else's living lease is in the way.
        ReservedError: two claims collide.
        UsageError: a claim has neither an owner nor a time to live.
    """
    _check(claims)
    forgotten: dict[Lease, None] = {}
    for entry, claim in product(known, claims):
        hinders = in_the_way(claim, entry.lease)
        if hinders and is_alive(entry, where, now):
            raise LeasedError(claim.request, shown(entry, now))
        if hinders or _same_lease(claim, entry.lease):
            forgotten[entry.lease] = None
    # tokens grow, even where a store had to begin anew: milliseconds since 1970
    first = max(last_token + 1, int(now.wall * 1000))
    entries = [_entry(claim, first + number, where, now) for number, claim in enumerate(claims)]
    return tuple(forgotten), tuple(entries)


def in_the_way(claim: Claim, lease: Lease) -> bool:
    """Whether the lease, if it is alive, forbids the claim."""
    if claim.scope != lease.scope or not collide(claim.request, lease.request):
        return False
    owners = {claim.owner, lease.owner} - {None}
    return _service(claim) != _service(lease) or len(owners) > 1


def is_alive(entry: Entry, where: Here, now: Moment) -> bool:
    """Whether the lease has time left, and an owner who may live or has left it to others.

    One that belongs to no process ends some hours after its checkout was deleted.
    """
    left = seconds_left(entry, now)
    if left is not None and left <= 0:
        return False
    lease, owner = entry.lease, entry.lease.owner
    if owner is None:
        is_old = now.wall - lease.created_at > RESERVATION_SECONDS
        return not (is_old and is_deserted(lease.place, lease.scope, where))
    if not is_dead(owner, lease.scope, where):
        return True
    return is_carried_on(lease, where)


def seconds_left(entry: Entry, now: Moment) -> float | None:
    """Until the lease ends, negative after that; None where it has no end in time."""
    if entry.ends is None or entry.lease.expires_at is None:
        return None
    if entry.boot == now.boot:
        return entry.ends - now.since_boot
    return entry.lease.expires_at - now.wall


def shown(entry: Entry, now: Moment) -> Lease:
    """The lease with its end by the wall clock as that is now."""
    left = seconds_left(entry, now)
    if left is None or entry.lease.expires_at is None:
        return entry.lease
    expires_at = now.wall + left
    if abs(expires_at - entry.lease.expires_at) < _STEP_SECONDS:
        return entry.lease
    return replace(entry.lease, expires_at=expires_at)


def prolonged(entry: Entry, ttl_seconds: float | None, where: Here, now: Moment) -> Entry:
    """The entry with a new end, counted from now.

    Raises:
        UsageError: it would have no end, and has no owner.
    """
    lease = entry.lease
    if ttl_seconds is None:
        if lease.owner is None:
            raise UsageError("a reservation that no process owns has an end")
        if not bounded(lease.scope, where):
            return Entry(replace(lease, expires_at=None), now.boot, None)
        ttl_seconds = LEASE_SECONDS
    ends = now.since_boot + ttl_seconds
    return Entry(replace(lease, expires_at=now.wall + ttl_seconds), now.boot, ends)


def bounded(scope: str, where: Here) -> bool:
    """Whether others who share the scope may not be able to judge an owner by its PID.

    They can where the ports are this machine's own, and the PID is one of its first PID namespace.
    """
    return scope != where.host_scope or not where.sees_all_pids


def lost(lease: Lease) -> ReservedError:
    """What is said of a lease that is no longer its owner's."""
    return ReservedError(f"the reservation of {lease.request} for {service(lease)} was lost")


def sorted_leases(leases: Iterable[Lease]) -> tuple[Lease, ...]:
    """In the order in which a store lists them."""
    return tuple(
        sorted(leases, key=lambda each: (each.scope, each.transport, each.port, each.token))
    )


def _check(claims: Sequence[Claim]) -> None:
    for one, other in combinations(claims, 2):
        if one.scope == other.scope and collide(one.request, other.request):
            raise ReservedError(
                f"{service(one)} and {service(other)} both want {other.request}"
                if one.request == other.request
                else f"{one.request} for {service(one)} and {other.request} for {service(other)} "
                "are in each other's way"
            )


def _service(of: Claim | Lease) -> tuple[str, ...]:
    return (of.scope, of.project, of.place, of.service)


def _same_lease(claim: Claim, lease: Lease) -> bool:
    return (_service(claim), claim.request, claim.owner) == (
        _service(lease), lease.request, lease.owner,
    )  # fmt: skip


def _entry(claim: Claim, token: int, where: Here, now: Moment) -> Entry:
    fields = asdict(claim)
    ttl_seconds = fields.pop("ttl_seconds")
    lease = Lease(**fields, token=token, created_at=now.wall, expires_at=None)
    return prolonged(Entry(lease, now.boot, None), ttl_seconds, where, now)
