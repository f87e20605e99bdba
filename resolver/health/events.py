"""What happens to ports over time, as frozen values. Nothing here looks at anything."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from resolver.leases.model import Lease
    from resolver.model import HolderReport, PortRequest


class EventKind(StrEnum):
    """What happened. `HELD` and `FREE` say how a port was found when the watch began."""

    HELD = "held"
    FREE = "free"
    TAKEN = "taken"
    RELEASED = "released"
    CHANGED = "changed"  # another owner, with nothing seen in between
    RESPAWNED = "respawned"  # the same program, container or unit once more
    LEASE_GRANTED = "lease-granted"
    LEASE_EXPIRED = "lease-expired"  # its time was over, or its owner ended
    LEASE_RELEASED = "lease-released"
    NOTE = "note"  # what cannot be seen, and why; about no port in particular


class Event(Struct, frozen=True):
    """One thing that happened, at `at` seconds since the epoch: that is when it was seen.

    Attributes:
        holders: who has the port since; `before`: who had it.
        seconds: `RELEASED` and `CHANGED`: how long it had been held, and `at_least` that where it
            was held when the watch began. `RESPAWNED`: how long nobody had it, 0 where it changed
            hands between two looks.
        count: `RESPAWNED`: how often that has been seen of this owner on this port.
        lease: of the events about leases.
        reason: in words, where there is more to say; all there is to a `NOTE`.
    """

    at: float
    kind: EventKind
    request: PortRequest | None = None
    services: tuple[str, ...] = ()
    holders: tuple[HolderReport, ...] = ()
    before: tuple[HolderReport, ...] = ()
    seconds: float | None = None
    at_least: bool = False
    count: int = 0
    lease: Lease | None = None
    reason: str = ""
