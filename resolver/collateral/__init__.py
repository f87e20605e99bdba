"""Collateral: what else would be lost with a holder, from evidence of its own processes. Read-only.

Each module looks for one kind of loss, in a `Family` (`family.py`); general evidence comes first,
and programs that are known by name stand in one table (`known.py`). Whether a loss stops a plan is
said by its degree, and decided by the planner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from resolver.collateral import (
    containers,
    databases,
    devices,
    displays,
    inherited,
    inhibitors,
    own_container,
    own_session,
    ports,
    programs,
    siblings,
    state,
    terminals,
    workers,
)
from resolver.collateral.family import Family, Sockets
from resolver.model import Degree, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.model import Classification, Collateral, Snapshot

_ENDED = {Kind.LOCAL, Kind.SERVICE, Kind.ORPHAN, Kind.BYSTANDER}  # the last by force


def with_collateral(
    found: Iterable[Classification], snapshot: Snapshot
) -> tuple[Classification, ...]:
    """The same, with what would be lost with those that a step might end, besides what is known."""
    sockets = Sockets()
    return tuple(
        replace(each, collateral=(*each.collateral, *_lost(each, snapshot, sockets)))
        for each in found
    )


def _lost(each: Classification, snapshot: Snapshot, sockets: Sockets) -> tuple[Collateral, ...]:
    container = each.holder.container
    if container is not None and each.kind in {Kind.CONTAINER, Kind.SERVICE}:
        return tuple(containers.lost(each, container, sockets))
    if each.kind in _ENDED and each.holder.processes:
        return _collateral(each, snapshot, sockets)
    return ()


def _collateral(
    each: Classification, snapshot: Snapshot, sockets: Sockets
) -> tuple[Collateral, ...]:
    family = Family(each, sockets)
    if not family.members:
        return ()
    shown, kernels = family.once(displays.lost), family.once(state.lost)
    told = (each.kind for each in (*shown, *kernels) if each.degree is Degree.REFUSED)
    return (
        *family.once(workers.lost),
        *ports.lost(family),
        *inherited.lost(family),
        *terminals.lost(family),
        *shown,
        *family.once(devices.lost),
        *kernels,
        *family.once(inhibitors.lost),
        *databases.lost(family),
        *programs.lost(family, told),
        *siblings.lost(family, snapshot),
        *own_container.lost(family, each.runner, snapshot),
        *own_session.lost(family, snapshot),
    )
