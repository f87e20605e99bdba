"""PURE: the history of one port, from one look to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from resolver.health.events import Event, EventKind
from resolver.model import Holder, HolderReport, PortRequest, SocketState
from resolver.model.compose_labels import PROJECT, SERVICE
from resolver.programs import ENGINES, known_as

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


RESPAWN_SECONDS = 120.0  # engines start a crashed container again after a minute at the latest
_HOLDING = {
    SocketState.LISTENING,
    SocketState.BOUND,
    SocketState.UNCONNECTED,
    SocketState.PUBLISHED,
}


class Instant(Struct, frozen=True):
    """When a look was taken: seconds since the epoch, and seconds of a clock that never jumps."""

    at: float
    monotonic: float


class PortHistory:
    """What is known of one port; `holders` is empty while nobody has it.

    `since` is when it was taken, or came free; `from_start` says that the watch began with it so.
    """

    def __init__(self, request: PortRequest, services: tuple[str, ...], now: Instant) -> None:
        self.request = request
        self.services = services
        self.holders: tuple[HolderReport, ...] = ()
        self.since = now
        self.from_start = False
        self._lives: frozenset[object] = frozenset()
        self._last: tuple[HolderReport, ...] = ()
        self._respawns: dict[tuple[str, ...], int] = {}

    @property
    def respawns(self) -> int:
        """How often a respawn was seen on this port, of whomever."""
        return sum(self._respawns.values())

    def begin(self, holders: Iterable[HolderReport], starts: Mapping[str, int]) -> Event:
        """How the port was found when the watch began."""
        self.holders = held_by(holders)
        self.from_start = True
        self._lives = lives(self.holders, starts)
        return self._event(EventKind.HELD if self.holders else EventKind.FREE, self.since)

    def update(
        self, holders: Iterable[HolderReport], starts: Mapping[str, int], now: Instant
    ) -> Event | None:
        """What happened, where the port is now held so; None where it is the same owner's.

        Args:
            holders: of the port; empty where it came free.
            starts: how often each container, by its id, was seen to start.
            now: when the look was taken.
        """
        before, self.holders = self.holders, held_by(holders)
        lived, self._lives = self._lives, lives(self.holders, starts)
        same = keys(before) == keys(self.holders)
        if lived == self._lives or (same and lived & self._lives):
            return None  # a further socket of the same owner is no event
        seconds, at_least = now.monotonic - self.since.monotonic, self.from_start
        self.since, self.from_start = now, False
        if not before:
            return self._taken(seconds, now)
        if same and keys(before):
            return self._respawned(before, 0.0, now)
        kind = EventKind.CHANGED if self.holders else EventKind.RELEASED
        self._last = () if self.holders else before
        return self._event(kind, now, before=before, seconds=seconds, at_least=at_least)

    def missed(self, now: Instant) -> Event:
        """It was taken, and free again before its owner could be looked at."""
        self.since, self.from_start = now, False
        reason = "and free again before its owner could be looked at"
        return self._event(EventKind.TAKEN, now, reason=reason)

    def forget(self, now: Instant) -> bool:
        """Lets go of who had it, where it has been free for so long that nobody comes back.

        Returns:
            Whether nothing is left that anybody would want to know.
        """
        if self.holders or now.monotonic - self.since.monotonic <= RESPAWN_SECONDS:
            return False
        self._last = ()
        return not self._respawns

    def _taken(self, free_seconds: float, now: Instant) -> Event:
        before, self._last = self._last, ()
        if keys(before) & keys(self.holders) and free_seconds <= RESPAWN_SECONDS:
            return self._respawned(before, free_seconds, now)
        return self._event(EventKind.TAKEN, now)

    def _respawned(self, before: tuple[HolderReport, ...], gap: float, now: Instant) -> Event:
        key = min(keys(before) & keys(self.holders))
        self._respawns[key] = self._respawns.get(key, 0) + 1
        count = self._respawns[key]
        return self._event(EventKind.RESPAWNED, now, before=before, seconds=gap, count=count)

    def _event(self, kind: EventKind, now: Instant, **fields: Any) -> Event:  # noqa: ANN401
        return Event(now.at, kind, self.request, self.services, self.holders, **fields)


def held_by(holders: Iterable[HolderReport]) -> tuple[HolderReport, ...]:
    """Those that have the port as a server does; connections and NAT rules do not."""
    return tuple(each for each in holders if each.holder.state in _HOLDING)


def remaining(holders: Iterable[HolderReport], inodes: frozenset[int]) -> tuple[HolderReport, ...]:
    """The holders that still have one of these sockets; one without any socket stays."""
    return tuple(each for each in holders if not each.holder.inodes or each.holder.inodes & inodes)


def keys(holders: Iterable[HolderReport]) -> frozenset[tuple[str, ...]]:
    """What each owner would be known by if it came back; nothing for one who is hidden."""
    return frozenset(key for each in holders if (key := _key(each)))


def lives(holders: Iterable[HolderReport], starts: Mapping[str, int]) -> frozenset[object]:
    """Which run of each owner this is."""
    return frozenset(life for each in holders for life in _lives(each.holder, starts))


def _key(report: HolderReport) -> tuple[str, ...]:
    """A container by its name, a unit or program by its manager's, a process by its command."""
    holder, manager = report.holder, report.classification.manager
    if holder.container is not None:
        project, service = (holder.container.label(name) for name in (PROJECT, SERVICE))
        if project and service:
            return ("compose", project, service)
        return ("container", holder.container.name)
    if manager is not None:
        return (manager.kind, manager.name)
    if holder.master is not None:
        master = holder.master
        return ("command", master.user or "", master.name, master.cwd or "", *master.command)
    return ("cgroup", holder.cgroup) if holder.cgroup else ()


def _lives(holder: Holder, starts: Mapping[str, int]) -> tuple[object, ...]:
    container = holder.container
    if container is not None and (holder.master is None or known_as(holder.master, ENGINES)):
        return ((container.id, starts.get(container.id, 0)),)  # the engine itself goes on
    return holder.masters or tuple(sorted(holder.inodes)) or (holder.binding,)
