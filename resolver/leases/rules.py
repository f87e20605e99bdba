"""PURE: who may have a port, which leases have ended, and what comes of a call to a store.

Time is counted on two clocks. In the boot in which a lease was granted its end is judged by the
clock that no step of the wall clock moves; in another boot the wall clock is all there is. So a
clock that is set forward ends no lease, and one that is set back does not prolong any.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from resolver.errors import ReservedError, UsageError
from resolver.leases.model import Entry, Lease, collide
from resolver.leases.owner import is_dead
from resolver.report.lease import service, whose
from resolver.settings import LEASE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolver.leases.model import Claim
    from resolver.leases.owner import Here

_STEP_SECONDS = 1.0  # a smaller difference of the clocks is their drift


class Moment(Struct, frozen=True):
    """Now, in seconds: since the epoch by the wall clock, and since the boot that is named."""

    wall: float
    boot: str
    since_boot: float


class Granted(Struct, frozen=True):
    """What a store has to do for an acquisition: to forget some leases, and to keep others."""

    forgotten: tuple[Lease, ...]
    entries: tuple[Entry, ...]


def grant(
    claims: Sequence[Claim], known: Iterable[Entry], last_token: int, where: Here, now: Moment
) -> Granted:
    """Grants all the claims or none.

    Args:
        claims: what is wanted.
        known: at least every entry on the claims' ports.
        last_token: of the latest grant.
        where: what owners are compared with.
        now: the present.

    Raises:
        ReservedError: somebody else's living lease is in the way, or two claims collide.
        UsageError: a claim has neither an owner nor a time to live.
    """
    _check(claims)
    forgotten: dict[Lease, None] = {}
    for entry in known:
        for claim in claims:
            if not (_same_lease(claim, entry.lease) or in_the_way(claim, entry.lease)):
                continue
            if in_the_way(claim, entry.lease) and is_alive(entry, where, now):
                raise ReservedError(f"{claim.request} is reserved for {whose(shown(entry, now))}")
            forgotten[entry.lease] = None
    tokens = range(first_token(last_token, now), first_token(last_token, now) + len(claims))
    entries = [_entry(*each, where, now) for each in zip(claims, tokens, strict=True)]
    return Granted(tuple(forgotten), tuple(entries))


def in_the_way(claim: Claim, lease: Lease) -> bool:
    """Whether the lease, if it is alive, forbids the claim."""
    if claim.scope != lease.scope or not collide(claim.request, lease.request):
        return False
    return not (_same_service(claim, lease) and _compatible(claim, lease))


def is_alive(entry: Entry, where: Here, now: Moment) -> bool:
    """Whether the lease has time left, and an owner who may live, or none."""
    left = seconds_left(entry, now)
    if left is not None and left <= 0:
        return False
    owner = entry.lease.owner
    return owner is None or not is_dead(owner, entry.lease.scope, where)


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
    if ttl_seconds is None and lease.owner is None:
        raise UsageError("a reservation that no process owns has an end")
    ttl = _ttl(ttl_seconds, lease.scope, where)
    return Entry(
        replace(lease, expires_at=None if ttl is None else now.wall + ttl),
        now.boot,
        None if ttl is None else now.since_boot + ttl,
    )


def bounded(scope: str, where: Here) -> bool:
    """Whether others who share the scope may not be able to judge an owner by its PID.

    They can where the ports are this machine's own, and the PID is one of its first PID namespace.
    """
    return scope != where.host_scope or not where.in_the_open


def first_token(last: int, now: Moment) -> int:
    """The next token: it grows, even where a store had to begin anew (milliseconds since 1970)."""
    return max(last + 1, int(now.wall * 1000))


def lost(lease: Lease) -> ReservedError:
    """What is said of a lease that is no longer its owner's."""
    return ReservedError(f"the reservation of {lease.request} for {service(lease)} was lost")


def sorted_leases(leases: Iterable[Lease]) -> tuple[Lease, ...]:
    """In the order in which a store lists them."""
    return tuple(
        sorted(leases, key=lambda each: (each.scope, each.transport, each.port, each.token))
    )


def _check(claims: Sequence[Claim]) -> None:
    for claim in claims:
        if claim.owner is None and claim.ttl_seconds is None:
            raise UsageError("a reservation that no process owns has an end")
    for one, other in combinations(claims, 2):
        if one.scope == other.scope and collide(one.request, other.request):
            raise ReservedError(
                f"{service(one)} and {service(other)} both want {other.request}"
                if one.request == other.request
                else f"{one.request} for {service(one)} and {other.request} for {service(other)} "
                "are in each other's way"
            )


def _same_service(claim: Claim, lease: Lease) -> bool:
    return (claim.scope, claim.project, claim.place, claim.service) == (
        lease.scope,
        lease.project,
        lease.place,
        lease.service,
    )


def _compatible(claim: Claim, lease: Lease) -> bool:
    return claim.owner is None or lease.owner is None or claim.owner == lease.owner


def _same_lease(claim: Claim, lease: Lease) -> bool:
    return (
        _same_service(claim, lease)
        and claim.request == lease.request
        and claim.owner == lease.owner
    )


def _ttl(wanted: float | None, scope: str, where: Here) -> float | None:
    return LEASE_SECONDS if wanted is None and bounded(scope, where) else wanted


def _entry(claim: Claim, token: int, where: Here, now: Moment) -> Entry:
    ttl = _ttl(claim.ttl_seconds, claim.scope, where)
    lease = Lease(
        token=token,
        scope=claim.scope,
        port=claim.port,
        transport=claim.transport,
        address=claim.address,
        service=claim.service,
        project=claim.project,
        place=claim.place,
        owner=claim.owner,
        created_at=now.wall,
        expires_at=None if ttl is None else now.wall + ttl,
        held=claim.held,
    )
    return Entry(lease, now.boot, None if ttl is None else now.since_boot + ttl)
