"""Watches the store of reservations: what was granted, and what has ended and why."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from resolver.errors import StoreError
from resolver.health.events import Event, EventKind
from resolver.leases.owner import here, is_dead
from resolver.leases.scope import current
from resolver.leases.store import existing_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from resolver.leases.model import Lease
    from resolver.model import PortRequest
    from resolver.protocols import LeaseStore

_DRIFT_SECONDS = 1.0  # of the clocks by which an end is judged and shown (leases.rules)
_PATIENCE_SECONDS = 5.0  # until a store that cannot be read is tried again


class LeaseWatch:
    """The living leases of one scope, by their tokens in `alive`, as of the last look.

    Args:
        environ: the settings.
        root: the project's, absolute.
        services: the names of the services that are on each port.

    Raises:
        UsageError: a setting makes no sense.
        EngineError: the scope is an engine's, which does not answer.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        root: Path,
        services: Mapping[PortRequest, tuple[str, ...]],
    ) -> None:
        self.alive: dict[int, Lease] = {}
        self.error = ""
        self._where = here(environ)
        self._scope = current(environ)
        self._environ = environ
        self._root = root
        self._services = services
        self._store: LeaseStore | None = None
        self._next_try = 0.0

    def look(self) -> tuple[Event, ...]:
        """What happened since the last look; nothing where the store cannot be read just now."""
        if time.monotonic() < self._next_try:
            return ()
        try:
            store = self._opened()
            found = {each.token: each for each in store.leases(self._scope)} if store else {}
        except StoreError as error:
            self.error = f"what is reserved cannot be told: {error}"
            self._next_try = time.monotonic() + _PATIENCE_SECONDS
            return ()
        self.error = ""
        before, self.alive = self.alive, found
        return tuple(self._compare(before))

    def close(self) -> None:
        """Lets go of the store."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def _opened(self) -> LeaseStore | None:
        """The store; until there is one, a new look for it."""
        if self._store is None:
            self._store = existing_store(self._environ, self._root)
        return self._store

    def _compare(self, before: Mapping[int, Lease]) -> Iterator[Event]:
        ended = [lease for token, lease in before.items() if token not in self.alive]
        new = [lease for token, lease in self.alive.items() if token not in before]
        renewed = set(map(_same, ended)) & set(map(_same, new))
        yield from (self._end(lease) for lease in ended if _same(lease) not in renewed)
        for lease in new:
            if _same(lease) not in renewed:
                yield self._event(EventKind.LEASE_GRANTED, lease)

    def _end(self, lease: Lease) -> Event:
        """Whether it ended by itself; one that is dead may have been forgotten by somebody else."""
        if lease.owner is not None and is_dead(lease.owner, lease.scope, self._where):
            reason = f"its owner, process {lease.owner.pid}, has ended"
            return self._event(EventKind.LEASE_EXPIRED, lease, reason)
        if lease.expires_at is not None and lease.expires_at <= time.time() + _DRIFT_SECONDS:
            return self._event(EventKind.LEASE_EXPIRED, lease, "its time is over")
        return self._event(EventKind.LEASE_RELEASED, lease)

    def _event(self, kind: EventKind, lease: Lease, reason: str = "") -> Event:
        names = self._services.get(lease.request, ())
        return Event(time.time(), kind, lease.request, names, lease=lease, reason=reason)


def _same(lease: Lease) -> object:
    """What a claim replaces: the new lease with a new token is the old one, renewed."""
    return (lease.request, lease.service, lease.project, lease.place, lease.owner)
