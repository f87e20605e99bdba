"""The ledger: leases in SQLite's tables, for everybody on this machine who can see them.

What a call may do is decided by `rules`, within one transaction; where the tables are is the
business of `database` and `shared`.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

from resolver.errors import StoreError
from resolver.host import own_files
from resolver.leases import rules
from resolver.leases.rules import LeasedError, Moment
from resolver.leases.state import COPIES
from resolver.leases.stores import rows
from resolver.leases.stores.database import BusyError, FileDatabase, MemoryDatabase, UnwritableError
from resolver.leases.stores.shared import SharedDatabase
from resolver.settings import STORE_SECONDS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from resolver.leases.model import Claim, Entry, Lease
    from resolver.leases.owner import Here
    from resolver.leases.state import StateDirectory

log = logging.getLogger(__name__)

_MANY = 500  # leases; beyond that the dead ones are swept out in passing


def present(boot: str) -> Moment:
    """Now. The clock since boot also counts the time that a machine sleeps, where there is one."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # clock_gettime(2)
    return Moment(time.time(), boot, time.clock_gettime(clock))


class Ledger:
    """Leases in one database.

    Args:
        path: of the file, or of the first copy of a ledger that users share; None: in memory.
        where: what owners are compared with.
        now: the present.
        patience_seconds: how long others may keep it busy.
        found: in memory, the leases that can be read and not written; they count as any other.
    """

    def __init__(
        self,
        path: Path | None,
        where: Here,
        *,
        now: Callable[[str], Moment] = present,
        patience_seconds: float = STORE_SECONDS,
        found: Iterable[Entry] = (),
    ) -> None:
        self.where = "memory" if path is None else str(path)
        self.lasting = path is not None
        self.warnings: tuple[str, ...] = ()
        self.unreadable = ""
        self._here = where
        self._now = now
        self._database: FileDatabase | SharedDatabase | MemoryDatabase
        if path is None:
            self._database = MemoryDatabase(found)
        elif path.name in COPIES:
            self._database = SharedDatabase(path, patience_seconds)
        else:
            self._database = FileDatabase(path, patience_seconds)

    @classmethod
    def opened(cls, directory: StateDirectory, where: Here) -> Self:
        """The ledger in the directory, which is made with it.

        Where it cannot be made or written, it lives in memory, with the leases of one that can only
        be read: `lasting` is False, and `warnings` has the reason.

        Raises:
            StoreError: it is damaged, another program's, or a later version's.
        """
        reason = directory.reason
        try:
            if not reason:
                own_files.folder(directory.path, make=True).close()
                ledger = cls(directory.ledger, where)
                ledger.check()
                return ledger
        except UnwritableError as error:
            reason = error.reason
        except OSError as error:
            reason = error.strerror or str(error)
        what = "reservations cannot be kept" + ("" if directory.reason else f" in {directory.path}")
        warning = f"{what}: {reason}; they are forgotten when this command ends"
        store = cls(None, where)
        try:
            if directory.ledger.exists():  # others live by what is in it
                store = cls(None, where, found=cls(directory.ledger, where).entries())
        except (StoreError, OSError):
            store.unreadable = f"what is reserved in {directory.path} cannot be read by this user"
            warning += f", and {store.unreadable}"
        store.warnings = (warning,)
        return store

    def check(self) -> None:
        """Makes it where it is missing, and writes to it, unless others do at this very moment.

        Raises as `FileDatabase.writing`.
        """
        with suppress(BusyError), self._database.writing(patient=False) as database:
            # a change, however small: SQLite writes no page that stays as it is
            database.execute("UPDATE grants SET last_token = last_token + 1")

    def acquire(self, claims: Sequence[Claim]) -> tuple[Lease, ...]:
        """See `LeaseStore`."""
        if not claims:
            return ()
        with self._granting() as grant:
            return grant(claims)

    def acquire_first(self, claims: Iterable[Claim]) -> tuple[Lease | None, tuple[Lease, ...]]:
        """See `LeaseStore`."""
        hindering: list[Lease] = []
        with self._granting() as grant:
            for claim in claims:
                try:
                    return grant([claim])[0], tuple(hindering)
                except LeasedError as error:
                    hindering.append(error.lease)
        return None, tuple(hindering)

    def release(self, leases: Sequence[Lease]) -> tuple[Lease, ...]:
        """See `LeaseStore`."""
        if not leases:
            return ()
        with self._database.writing() as database:
            ended = rows.delete(database, leases)
        for lease in ended:
            log.info("released %s for %s, token %s", lease.request, lease.service, lease.token)
        return ended

    def renew(self, lease: Lease, ttl_seconds: float | None) -> Lease:
        """See `LeaseStore`."""
        with self._database.writing() as database:
            for entry in rows.entries(database, {lease.port}):
                if (entry.lease.token, entry.lease.scope) == (lease.token, lease.scope):
                    new = rules.prolonged(entry, ttl_seconds, self._here, self._moment())
                    database.execute(
                        "UPDATE lease SET expires_at = ?, boot = ?, ends = ? WHERE token = ?",
                        (new.lease.expires_at, new.boot, new.ends, lease.token),
                    )
                    return new.lease
        raise rules.lost(lease)

    def leases(self, scope: str | None = None) -> tuple[Lease, ...]:
        """See `LeaseStore`."""
        found, now = self.entries(), self._moment()
        return rules.sorted_leases(
            rules.shown(entry, now)
            for entry in found
            if scope in {None, entry.lease.scope} and rules.is_alive(entry, self._here, now)
        )

    def is_empty(self) -> bool:
        """See `LeaseStore`."""
        return not self.entries()

    def entries(self) -> tuple[Entry, ...]:
        """Every lease as it is kept, alive or not.

        Raises:
            StoreError: the store cannot be read.
        """
        with self._database.reading() as database:
            return rows.entries(database)

    def prune(self) -> tuple[Lease, ...]:
        """See `LeaseStore`."""
        with self._database.writing() as database:
            return self._prune(database, self._moment())

    def remember(self, scope: str, project: str, place: str, ports: Mapping[str, int]) -> None:
        """See `LeaseStore`."""
        with self._database.writing() as database:
            database.executemany(
                "INSERT OR REPLACE INTO last_port VALUES (?, ?, ?, ?, ?)",
                [
                    (*map(rows.kept, (scope, project, place, service)), port)
                    for service, port in ports.items()
                ],
            )

    def recall(self, scope: str, project: str, place: str) -> dict[str, int]:
        """See `LeaseStore`."""
        with self._database.reading() as database:
            found = database.execute(
                "SELECT service, port FROM last_port WHERE scope = ? AND project = ? AND place = ?",
                tuple(map(rows.kept, (scope, project, place))),
            )
            return dict(sorted((rows.read(service), int(port)) for service, port in found))

    def close(self) -> None:
        """See `LeaseStore`. No file is open, and what is in memory ends with this."""

    @contextmanager
    def _granting(self) -> Iterator[Callable[[Sequence[Claim]], tuple[Lease, ...]]]:
        """What grants all of some claims or none, within one transaction."""

        def grant(claims: Sequence[Claim]) -> tuple[Lease, ...]:
            known = rows.entries(database, {claim.port for claim in claims})
            forgotten, entries = rules.grant(claims, known, last, self._here, now)
            rows.delete(database, forgotten)
            rows.insert(database, entries)
            granted.extend(entry.lease for entry in entries)
            return tuple(granted)

        granted: list[Lease] = []
        with self._database.writing() as database:
            now = self._moment()
            (count,) = database.execute("SELECT count(*) FROM lease").fetchone()
            if count > _MANY:
                self._prune(database, now)
            last = rows.last_token(database)
            yield grant
        for lease in granted:
            log.info("reserved %s for %s, token %s", lease.request, lease.service, lease.token)

    def _moment(self) -> Moment:
        return self._now(self._here.boot)

    def _prune(self, database: sqlite3.Connection, now: Moment) -> tuple[Lease, ...]:
        ended = [
            entry.lease
            for entry in rows.entries(database)
            if not rules.is_alive(entry, self._here, now)
        ]
        return rules.sorted_leases(rows.delete(database, ended))
