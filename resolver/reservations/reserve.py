"""Reserves one port for one service: one of those that are named, and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.errors import PortNotPermittedError, ReservedError, UltraPortsError
from resolver.reservations.allocate import allocate
from resolver.reservations.requests import of_name
from resolver.reservations.terms import Assigned, ObstacleError, Terms, UnmetError

if TYPE_CHECKING:
    from resolver.model import PortRequest
    from resolver.protocols import LeaseStore


def reserve(
    service: str, requests: tuple[PortRequest, ...], terms: Terms, store: LeaseStore
) -> Assigned:
    """Reserves the first of the ports that is to be had; `terms` are strict.

    Raises:
        ReservedError: somebody else has them, or has reserved them.
        PortNotPermittedError: this user may not bind the port, so it cannot be proved free.
        EngineError: the scope is an engine's, which does not answer.
        StoreError: the store cannot be reached or written.
        UsageError: an address is none of this machine's.
    """
    try:
        (found,) = allocate([of_name(service, *requests)], terms, store)
    except UnmetError as error:
        ((_, obstacles),) = error.unmet
        raise _refusal(requests, obstacles) from error
    return found


def _refusal(
    requests: tuple[PortRequest, ...], obstacles: tuple[ObstacleError, ...]
) -> UltraPortsError:
    first, *others = obstacles
    said = f"{first.request} {first}"
    if others:
        span = f"{requests[0].port}-{requests[-1].port}"
        return ReservedError(f"none of {span} is left: {said}, and {len(others)} more")
    if first.unproved:
        return PortNotPermittedError(said)
    return ReservedError(said, first.hint)
