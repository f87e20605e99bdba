"""A store that lives in this process alone: for one whose reservations cannot be kept."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from resolver.leases import rules
from resolver.leases.rules import Moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from resolver.leases.model import Claim, Entry, Lease
    from resolver.leases.owner import Here


def present(boot: str) -> Moment:
    """Now. The clock since boot also counts the time that a machine sleeps, where there is one."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # clock_gettime(2)
    return Moment(time.time(), boot, time.clock_gettime(clock))


class MemoryStore:
    """Leases of this process.

    Args:
        where: what owners are compared with.
        warnings: why it is memory, for the user.
        found: leases that can be read and not written; they count as everybody else's do.
        blind: why the leases of others could not even be read, for whoever wants to list them.
        now: the present.
    """

    lasting = False

    def __init__(
        self,
        where: Here,
        warnings: tuple[str, ...] = (),
        found: Iterable[Entry] = (),
        now: Callable[[str], Moment] = present,
        blind: str = "",
    ) -> None:
        self.where = "memory"
        self.warnings = warnings
        self.blind = blind
        self._here = where
        self._now = now
        self._entries = {entry.lease.token: entry for entry in found}
        self._token = max(self._entries, default=0)
        self._last: dict[tuple[str, str, str], dict[str, int]] = {}
        self._lock = threading.Lock()

    def acquire(self, claims: Sequence[Claim]) -> tuple[Lease, ...]:
        """See `LeaseStore`."""
        with self._lock:
            now = self._moment()
            known = self._entries.values()
            granted = rules.grant(claims, known, self._token, self._here, now)
            self._token = max((each.lease.token for each in granted.entries), default=self._token)
            for lease in granted.forgotten:
                del self._entries[lease.token]
            self._entries |= {entry.lease.token: entry for entry in granted.entries}
            return tuple(entry.lease for entry in granted.entries)

    def release(self, leases: Sequence[Lease]) -> tuple[Lease, ...]:
        """See `LeaseStore`."""
        with self._lock:
            found = [lease for lease in leases if self._entries.pop(lease.token, None)]
            return tuple(found)

    def renew(self, lease: Lease, ttl_seconds: float | None) -> Lease:
        """See `LeaseStore`."""
        with self._lock:
            entry = self._entries.get(lease.token)
            if entry is None:
                raise rules.lost(lease)
            entry = rules.prolonged(entry, ttl_seconds, self._here, self._moment())
            self._entries[lease.token] = entry
            return entry.lease

    def leases(self, scope: str | None = None) -> tuple[Lease, ...]:
        """See `LeaseStore`."""
        with self._lock:
            now = self._moment()
            return rules.sorted_leases(
                rules.shown(entry, now)
                for entry in self._entries.values()
                if scope in {None, entry.lease.scope} and rules.is_alive(entry, self._here, now)
            )

    def prune(self) -> tuple[Lease, ...]:
        """See `LeaseStore`."""
        with self._lock:
            now = self._moment()
            ended = [
                entry.lease
                for entry in self._entries.values()
                if not rules.is_alive(entry, self._here, now)
            ]
            for lease in ended:
                del self._entries[lease.token]
            return rules.sorted_leases(ended)

    def remember(self, scope: str, project: str, place: str, ports: Mapping[str, int]) -> None:
        """See `LeaseStore`."""
        with self._lock:
            self._last.setdefault((scope, project, place), {}).update(ports)

    def recall(self, scope: str, project: str, place: str) -> dict[str, int]:
        """See `LeaseStore`."""
        with self._lock:
            return dict(self._last.get((scope, project, place), {}))

    def close(self) -> None:
        """Has nothing to let go of."""

    def _moment(self) -> Moment:
        return self._now(self._here.boot)
