"""The ledger: leases in an SQLite file, for everybody on this machine who can see that file.

Every call opens the file, does one transaction (`BEGIN IMMEDIATE`) and closes it: nothing is kept
open over a fork, and a process that is killed at any moment leaves a file that the next one rolls
back. A lock file beside it is shared by all who use the ledger, and taken alone by whoever makes
it or sets a damaged one aside, so nobody writes to a file that has just been moved away.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn, TypeVar

from resolver import log
from resolver.errors import StoreError
from resolver.reservations import files, rows, rules
from resolver.reservations.memory import present
from resolver.settings import STORE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from resolver.reservations.model import Claim, Lease
    from resolver.reservations.owner import Here
    from resolver.reservations.rules import Entry, Moment

_T = TypeVar("_T")
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_UNWRITABLE = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_PRIMARY = 0xFF  # of an extended result code (sqlite.org/rescode.html)
_MANY = 500  # leases; beyond that the dead ones are swept out in passing


class UnwritableError(StoreError):
    """The ledger cannot be made or written here, for the `reason`."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where} cannot be written: {reason}")
        self.reason = reason


class Ledger:
    """Leases in the file `path`, whose directory exists.

    Args:
        path: of the database.
        where: what owners are compared with.
        mode: of the files; None leaves it to the umask.
        now: the present.
        patience_seconds: how long others may keep it busy.

    Raises:
        UnwritableError: it cannot be made or written.
        StoreError: it is another program's, a later version's, or busy for too long.
    """

    lasting = True

    def __init__(
        self,
        path: Path,
        where: Here,
        *,
        mode: int | None = None,
        now: Callable[[str], Moment] = present,
        patience_seconds: float = STORE_SECONDS,
    ) -> None:
        self.path = path
        self.where = str(path)
        self.warnings: tuple[str, ...] = ()
        self._here = where
        self._mode = mode
        self._now = now
        self._patience = patience_seconds
        self._run(rows.touch)

    def acquire(self, claims: Sequence[Claim]) -> tuple[Lease, ...]:
        """See `LeaseStore`."""

        def work(database: sqlite3.Connection) -> tuple[Lease, ...]:
            now = self._moment()
            self._sweep(database, now)
            known = rows.entries(database, {claim.port for claim in claims})
            granted = rules.grant(claims, known, rows.last_token(database), self._here, now)
            rows.delete(database, granted.forgotten)
            rows.insert(database, granted.entries)
            return tuple(entry.lease for entry in granted.entries)

        leases = self._run(work) if claims else ()
        for lease in leases:
            log.info("reserved %s for %s, token %s", lease.request, lease.service, lease.token)
        return leases

    def release(self, leases: Sequence[Lease]) -> tuple[Lease, ...]:
        """See `LeaseStore`."""
        ended = self._run(lambda database: rows.delete(database, leases)) if leases else ()
        for lease in ended:
            log.info("released %s for %s, token %s", lease.request, lease.service, lease.token)
        return ended

    def renew(self, lease: Lease, ttl_seconds: float | None) -> Lease:
        """See `LeaseStore`."""

        def work(database: sqlite3.Connection) -> Lease:
            entry = rows.entry(database, lease)
            if entry is None:
                raise rules.lost(lease)
            entry = rules.prolonged(entry, ttl_seconds, self._here, self._moment())
            rows.update(database, entry)
            return entry.lease

        return self._run(work)

    def leases(self, scope: str | None = None) -> tuple[Lease, ...]:
        """See `LeaseStore`."""
        found = self._run(rows.entries)
        now = self._moment()
        return rules.sorted_leases(
            rules.shown(entry, now)
            for entry in found
            if scope in {None, entry.lease.scope} and rules.is_alive(entry, self._here, now)
        )

    def prune(self) -> tuple[Lease, ...]:
        """See `LeaseStore`."""
        return self._run(lambda database: self._prune(database, self._moment()))

    def remember(self, scope: str, project: str, place: str, ports: Mapping[str, int]) -> None:
        """See `LeaseStore`."""
        self._run(lambda database: rows.remember(database, (scope, project, place), ports))

    def recall(self, scope: str, project: str, place: str) -> dict[str, int]:
        """See `LeaseStore`."""
        return self._run(lambda database: rows.recall(database, (scope, project, place)))

    def close(self) -> None:
        """Has nothing to let go of."""

    def _moment(self) -> Moment:
        return self._now(self._here.boot)

    def _sweep(self, database: sqlite3.Connection, now: Moment) -> None:
        if rows.count(database) > _MANY:
            self._prune(database, now)

    def _prune(self, database: sqlite3.Connection, now: Moment) -> tuple[Lease, ...]:
        ended = [
            entry.lease
            for entry in rows.entries(database)
            if not rules.is_alive(entry, self._here, now)
        ]
        return rules.sorted_leases(rows.delete(database, ended))

    def _run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Does the work in one transaction, if need be on a new ledger in a damaged one's place."""
        deadline = time.monotonic() + self._patience
        try:
            return self._once(work, deadline)
        except (sqlite3.DatabaseError, rows.MalformedError) as error:
            if not _is_damage(error):
                self._fail(error)
        try:
            self._set_aside(deadline)
            return self._once(work, deadline)
        except (sqlite3.DatabaseError, rows.MalformedError) as error:
            self._fail(error)

    def _once(self, work: Callable[[sqlite3.Connection], _T], deadline: float) -> _T:
        while True:
            with self._locked(fcntl.LOCK_SH, deadline):
                database = self._connect(deadline)
                if database is not None:
                    with closing(database):
                        if rows.version(database, self.where):
                            return _transact(database, work)
            self._create(deadline)

    def _create(self, deadline: float) -> None:
        with self._locked(fcntl.LOCK_EX, deadline):
            with self._reasons():
                os.close(files.make(self.path, self._mode))
            database = self._connect(deadline)
            if database is not None:
                with closing(database):
                    rows.create(database, self.where)

    def _connect(self, deadline: float) -> sqlite3.Connection | None:
        """Opens the file; None where there is none.

        SQLite would make a missing one with a mode of its own. Where it makes its other files it
        copies the mode and, for root, the owner of this one.
        """
        if not self.path.exists():
            return None
        return sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=max(0.0, deadline - time.monotonic()),
            isolation_level=None,
        )

    @contextmanager
    def _locked(self, how: int, deadline: float) -> Iterator[None]:
        """Has the lock file, which a killed process lets go of (flock(2))."""
        with self._reasons():
            descriptor = files.make(self.path.with_suffix(".lock"), self._mode)
        try:
            with self._reasons():
                locked = files.lock(descriptor, how, deadline)
            if not locked:
                raise StoreError(self._busy())
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _reasons(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UnwritableError(self.where, error.strerror or str(error)) from error

    def _set_aside(self, deadline: float) -> None:
        """Gives a damaged ledger a dated name, unless somebody else has just done so."""
        with self._locked(fcntl.LOCK_EX, deadline):
            database = self._connect(deadline)
            if database is None:
                return
            with closing(database):
                if rows.is_sound(database, self.where):
                    return
            with self._reasons():
                name = files.move_aside(self.path)
        log.info("set %s aside as %s", self.path, name)
        said = (
            f"{self.where} was damaged: it was set aside as {name}, and what it held is forgotten"
        )
        self.warnings += (said,)

    def _busy(self) -> str:
        return f"{self.where} is busy: others kept it for {self._patience:g} s"

    def _fail(self, error: Exception) -> NoReturn:
        """Raises what a failure of SQLite means."""
        code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
        if code in _BUSY:
            raise StoreError(self._busy()) from error
        if code in _UNWRITABLE:
            full = code == sqlite3.SQLITE_FULL or files.is_full(self.path)
            reason = "the disk is full" if full else str(error)
            raise UnwritableError(self.where, reason) from error
        raise StoreError(f"{self.where}: {error}") from error


def read(path: Path) -> tuple[Entry, ...]:
    """Every entry of a ledger, which is not changed, and need not be writable.

    Raises:
        StoreError: it cannot be read.
    """
    for suffix in ("mode=ro", "immutable=1"):  # the latter where SQLite cannot make its own files
        if suffix == "immutable=1" and _size(path.with_name(f"{path.name}-wal")):
            break  # what is in there would be missed
        try:
            uri = f"{path.absolute().as_uri()}?{suffix}"
            with closing(sqlite3.connect(uri, uri=True, timeout=1.0)) as database:
                return rows.entries(database) if rows.version(database, str(path)) else ()
        except rows.MalformedError as error:
            raise StoreError(f"{path}: {error}") from error
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & _PRIMARY not in _UNWRITABLE:
                raise StoreError(f"{path}: {error}") from error
    raise StoreError(f"{path} cannot be read by this user")


def _transact(database: sqlite3.Connection, work: Callable[[sqlite3.Connection], _T]) -> _T:
    database.execute("BEGIN IMMEDIATE")
    try:
        result = work(database)
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            with suppress(sqlite3.Error):
                database.execute("ROLLBACK")
        raise
    return result


def _is_damage(error: Exception) -> bool:
    if isinstance(error, rows.MalformedError):
        return True
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY in _DAMAGE


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
