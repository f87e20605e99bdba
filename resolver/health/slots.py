"""PURE: who has to leave a server that takes only so many connections at a time.

Whoever has the most of them makes room: of his connections the oldest that is not waiting for an
answer, which has not sent its request or has not taken the response. So whoever keeps connections
open is in nobody's way but his own, however many they are.
"""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

_NETWORK_BITS = 64  # of IPv6, whose lower half everybody may choose for himself (RFC 4291)


class Occupant(Protocol):
    """One connection; `peer` is who made it. `busy`: its request is being answered."""

    peer: Hashable
    busy: bool


_T = TypeVar("_T", bound=Occupant)


class Slots(Generic[_T]):
    """The connections that there are, the oldest first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: dict[_T, None] = {}

    def enter(self, new: _T) -> _T | None:
        """Adds a connection; the one that has to leave for it has left, which may be the same."""
        self._taken[new] = None
        if len(self._taken) <= self._most:
            return None
        count = Counter(each.peer for each in self._taken)
        crowd = max(count.values())
        candidates = (each for each in self._taken if count[each.peer] == crowd)
        excess = min(candidates, key=lambda each: each.busy)
        self.leave(excess)
        return excess

    def leave(self, gone: _T) -> None:
        """Takes it away, where it still is there."""
        self._taken.pop(gone, None)


def peer_key(address: str, uid: int | None) -> Hashable:
    """Who is at the other end: a user of this machine, else an address, or a network of IPv6."""
    if uid is not None:
        return uid
    found = ip_address(address)
    if not isinstance(found, IPv6Address):
        return found
    return found.ipv4_mapped or int(found) >> _NETWORK_BITS << _NETWORK_BITS
