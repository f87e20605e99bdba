"""Watches the store of reservations: what was granted, and what has ended and why."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import StoreError
from resolver.health.events import EventKind
from resolver.leases import rules
from resolver.leases.model import Entry
from resolver.leases.owner import here, is_dead
from resolver.leases.scope import current
from resolver.leases.state import state_directory
from resolver.leases.store import open_store
from resolver.leases.stores.ledger import Ledger, present
from resolver.settings import STORE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from resolver.leases.model import Lease
    from resolver.leases.rules import Moment
    from resolver.protocols import LeaseStore

_COARSE_NANOSECONDS = 100_000_000  # a file's time is as coarse as the kernel's tick
_ASK_SECONDS = 1.0  # a store that others keep for us is asked so often
_PATIENCE_SECONDS = 5.0  # until one that cannot be read is tried again


class Change(Struct, frozen=True):
    """What became of one lease: one of the `LEASE_` kinds, and why it ended by itself."""

    kind: EventKind
    lease: Lease
    reason: str = ""


class Leases:
    """The living leases of one scope.

    The ledger's file is read when it was written to, and what was read is judged at each look: a
    lease ends by itself when its time is over or its owner has ended.

    Args:
        environ: the settings.
        root: the project's, absolute.

    Raises:
        UsageError: a setting makes no sense.
        EngineError: the scope is an engine's, which does not answer.
    """

    def __init__(self, environ: Mapping[str, str], root: Path) -> None:
        self.trouble = ""
        self._where = here(environ)
        self._scope = current(environ)
        self._environ = environ
        self._root = root
        self._shared = bool(environ.get(STORE_VARIABLE, "").strip())
        self._place = None if self._shared else state_directory(environ, lambda: root)
        self._store: LeaseStore | None = None
        self._stamp: object = None
        self._next_try = 0.0
        self._entries: dict[int, Entry] = {}
        self._alive: dict[int, Lease] = {}

    @property
    def alive(self) -> tuple[Lease, ...]:
        """As of the last look."""
        return tuple(self._alive.values())

    def look(self) -> tuple[Change, ...]:
        """What happened since the last look; nothing where the store cannot be read just now."""
        if time.monotonic() < self._next_try:
            return ()
        now = present(self._where.boot)
        try:
            listed = self._listed()
        except StoreError as error:
            self.trouble = f"what is reserved cannot be told: {error}"
            self._next_try = time.monotonic() + _PATIENCE_SECONDS
            self._stamp = None
            return ()
        self.trouble = ""
        return self._compare(listed, now)

    def close(self) -> None:
        """Lets go of a shared store."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def _listed(self) -> dict[int, Entry]:
        """Every entry of the scope, alive or not."""
        if self._place is None:
            self._next_try = time.monotonic() + _ASK_SECONDS
            return {each.token: Entry(each, "", each.expires_at) for each in self._asked()}
        stamp = _stamp(self._place.written)
        if stamp is None:
            return {}
        if stamp != self._stamp:
            found = Ledger(self._place.ledger, self._where).entries()
            settled = time.time_ns() - max(time_ns for _, time_ns, _ in stamp) > _COARSE_NANOSECONDS
            self._stamp = stamp if settled else None
            return {each.lease.token: each for each in found if each.lease.scope == self._scope}
        return self._entries

    def _asked(self) -> tuple[Lease, ...]:
        if self._store is None:
            self._store = open_store(self._environ, self._root)
        return self._store.leases(self._scope)

    def _compare(self, listed: dict[int, Entry], now: Moment) -> tuple[Change, ...]:
        before, self._entries = self._alive, listed
        self._alive = {
            token: entry.lease
            for token, entry in listed.items()
            if rules.is_alive(entry, self._where, now)
        }
        ended = [lease for token, lease in before.items() if token not in self._alive]
        new = [lease for token, lease in self._alive.items() if token not in before]
        renewed = {_same(lease) for lease in ended} & {_same(lease) for lease in new}
        return (
            *(self._end(lease, now) for lease in ended if _same(lease) not in renewed),
            *(
                Change(EventKind.LEASE_GRANTED, lease)
                for lease in new
                if _same(lease) not in renewed
            ),
        )

    def _end(self, lease: Lease, now: Moment) -> Change:
        """Whether it ended by itself; one that is dead may have been forgotten by somebody else."""
        if lease.owner is not None and is_dead(lease.owner, lease.scope, self._where):
            reason = f"its owner, process {lease.owner.pid}, has ended"
            return Change(EventKind.LEASE_EXPIRED, lease, reason)
        entry = self._entries.get(lease.token)
        over = lease.expires_at is not None and lease.expires_at <= now.wall
        if entry is not None or over:
            return Change(EventKind.LEASE_EXPIRED, lease, "its time is over")
        return Change(EventKind.LEASE_RELEASED, lease)


def _same(lease: Lease) -> object:
    """What a claim replaces: the new lease with a new token is the old one, renewed."""
    return (lease.request, lease.service, lease.project, lease.place, lease.owner)


def _stamp(files: tuple[Path, ...]) -> tuple[tuple[int, int, int], ...] | None:
    """What changes with each write to the ledger; None: there is none."""
    found = []
    for part in files:
        try:
            status = os.stat(part)  # noqa: PTH116 - at each look
        except OSError:
            continue
        found.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(found) or None
