"""PURE: which leases `release` ends, and which are not this caller's to end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import ReservedError, UsageError
from resolver.model import PortRequest, ProcessIdentity
from resolver.report.lease import whose

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from resolver.leases.model import Lease


class Caller(Struct, frozen=True):
    """Who asks: the project's name and root, and the caller's own line, itself first.

    `named`: the project was named, so that it may be one of another directory.
    """

    project: str
    place: str
    line: tuple[ProcessIdentity, ...]
    named: bool = False
    forced: bool = False


class Selection(Struct, frozen=True):
    """What is to be released: services, ports, or everything of the project."""

    services: tuple[str, ...] = ()
    requests: tuple[PortRequest, ...] = ()
    everything: bool = False


def chosen(
    wanted: Selection, leases: Sequence[Lease], caller: Caller
) -> tuple[tuple[Lease, ...], tuple[str, ...]]:
    """The leases to end, and what was asked for and is not reserved, in words.

    Raises:
        ReservedError: one of them is another project's, or lives with another process.
        UsageError: the project is in several places, and the caller in none of them.
    """
    own = _own(leases, caller)
    found: dict[Lease, None] = dict.fromkeys(own if wanted.everything else ())
    missing = []
    for service in wanted.services:
        named = [lease for lease in own if lease.service == service]
        found |= dict.fromkeys(named)
        missing += [] if named else [service]
    for request in wanted.requests:
        there = [lease for lease in leases if _is_at(request, lease)]
        found |= dict.fromkeys(_permitted(there, own, caller))
        missing += [] if there else [str(request)]
    for lease in found:
        _check_owner(lease, caller)
    return tuple(found), tuple(missing)


def of_place(leases: Iterable[Lease], place: str) -> tuple[Lease, ...]:
    """Those of every project in the checkout, whose directory this is."""
    return tuple(
        lease for lease in leases if lease.place and Path(lease.place).is_relative_to(place)
    )


def apart(
    leases: Iterable[Lease], caller: Caller
) -> tuple[tuple[Lease, ...], tuple[ReservedError, ...]]:
    """Those that the caller may end, and why not the others."""
    ended, kept = [], []
    for lease in leases:
        try:
            _check_owner(lease, caller)
            ended.append(lease)
        except ReservedError as error:
            kept.append(error)
    return tuple(ended), tuple(kept)


def _own(leases: Iterable[Lease], caller: Caller) -> list[Lease]:
    named = [lease for lease in leases if lease.project == caller.project]
    here = [lease for lease in named if lease.place == caller.place]
    if here or not caller.named:
        return here
    places = sorted({lease.place for lease in named})
    if len(places) > 1:
        raise UsageError(
            f"project {caller.project} is in {' and '.join(places)}: go to the one that is meant"
        )
    return named


def _is_at(request: PortRequest, lease: Lease) -> bool:
    same = (request.port, request.transport) == (lease.port, lease.transport)
    return same and request.address in {None, lease.address}


def _permitted(there: Iterable[Lease], own: Collection[Lease], caller: Caller) -> list[Lease]:
    there = list(there)
    ours = [lease for lease in there if lease in own]
    if there and not ours and not caller.forced:
        other = there[0]
        raise ReservedError(
            f"{other.request} is reserved for {whose(other)}",
            f"not for project {caller.project}; --project names another one",
        )
    return ours or there


def _check_owner(lease: Lease, caller: Caller) -> None:
    owner = lease.owner
    if owner is None or caller.forced:
        return
    if ProcessIdentity(owner.pid, owner.start_time) not in caller.line:
        raise ReservedError(
            f"{lease.request} is reserved for {whose(lease)}, which ends with that process",
            "--force releases it all the same",
        )
