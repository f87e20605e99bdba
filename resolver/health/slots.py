"""PURE: who has to leave a server that takes only so many connections at a time.

Whoever has the most of them makes room: of his connections the oldest that is not waiting for an
answer, which has not sent its request or has not taken the response. So whoever keeps connections
open is in nobody's way but his own, however many they are.
"""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

_T = TypeVar("_T")
_NETWORK_BITS = 64  # of IPv6, whose lower half everybody may choose for himself (RFC 4291)


class Slot(Generic[_T]):
    """One connection; `peer` is who made it. `busy`: its request is being answered."""

    def __init__(self, peer: Hashable, connection: _T) -> None:
        self.peer = peer
        self.connection = connection
        self.busy = False


class Slots(Generic[_T]):
    """The connections that there are, the oldest first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._slots: dict[Slot[_T], None] = {}

    def __iter__(self) -> Iterator[Slot[_T]]:
        return iter(tuple(self._slots))

    def enter(self, slot: Slot[_T]) -> Slot[_T] | None:
        """Adds a connection; the one that has to leave for it has left, which may be the same."""
        self._slots[slot] = None
        if len(self._slots) <= self._most:
            return None
        count = Counter(each.peer for each in self._slots)
        crowd = max(count.values())
        candidates = (each for each in self._slots if count[each.peer] == crowd)
        excess = min(candidates, key=lambda each: each.busy)
        self.leave(excess)
        return excess

    def leave(self, slot: Slot[_T]) -> None:
        """Takes it away, where it still is there."""
        self._slots.pop(slot, None)


def who(address: str, uid: int | None) -> Hashable:
    """Who is at the other end: a user of this machine, else an address, or a network of IPv6."""
    if uid is not None:
        return uid
    found = ip_address(address)
    if not isinstance(found, IPv6Address):
        return found
    return found.ipv4_mapped or int(found) >> _NETWORK_BITS << _NETWORK_BITS
