"""The ledger's file: opened, made, shared with other processes, and set aside when it is damaged.

Each piece of work is one transaction (`BEGIN IMMEDIATE`; a mere look waits for no writer): a
process that is killed at any moment leaves a file that the next one rolls back. A lock file beside
it is shared by all who work on the ledger, and taken alone by whoever makes it or sets a damaged
one aside; so nobody writes to a file that was moved away. Here it is not known what leases mean.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn, TypeVar

from resolver import log
from resolver.errors import StoreError
from resolver.leases.stores import files, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from resolver.leases.model import Entry

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
_WRITE, _READ = "BEGIN IMMEDIATE", "BEGIN"
NO_FILE = "it is no regular file"
_PRIMARY = 0xFF  # of an extended result code (sqlite.org/rescode.html)


class UnwritableError(StoreError):
    """The ledger cannot be made or written here, for the `reason`."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where} cannot be written: {reason}")
        self.reason = reason


class Database:
    """The file `path`, whose directory exists.

    It stays open between two pieces of work, but not over a fork, nor when another file has taken
    its place.

    Args:
        path: of the file.
        mode: of the files that are made; None: for this user alone.
        patience_seconds: how long others may keep it busy.
    """

    def __init__(self, path: Path, mode: int | None, patience_seconds: float) -> None:
        self.path = path
        self.warnings: tuple[str, ...] = ()
        self._mode = mode
        self._patience = patience_seconds
        self._pid = os.getpid()
        self._alone = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inherited: sqlite3.Connection | None = None
        self._inode = 0
        self._known = False  # that these are our tables

    def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Does the work in one transaction, if need be on a new file in a damaged one's place.

        Raises:
            UnwritableError: it cannot be made or written.
            StoreError: it is another program's, a later version's, or busy for too long.
        """
        return self._transacted(work, _WRITE)

    def look(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Does work that only reads: what was committed before it began is what it sees.

        Raises:
            As `run`.
        """
        return self._transacted(work, _READ)

    def _transacted(self, work: Callable[[sqlite3.Connection], _T], begin: str) -> _T:
        if self._pid != os.getpid():
            self._begin_anew()
        deadline = time.monotonic() + self._patience
        if not self._alone.acquire(timeout=self._patience):
            raise StoreError(self._busy())
        try:
            return self._repaired(lambda database: _transact(database, work, begin), deadline)
        except (sqlite3.DatabaseError, rows.MalformedError) as error:
            self._fail(error)
        finally:
            self._alone.release()

    def close(self) -> None:
        """Closes the file; it is opened again when it is used again."""
        if self._connection is not None and self._pid == os.getpid():
            self._connection.close()
            self._connection = None
            self._known = False

    def __del__(self) -> None:
        self.close()

    def _begin_anew(self) -> None:
        """After a fork: what the parent has open is its own, and is not even closed here."""
        self._pid = os.getpid()
        self._alone = threading.Lock()  # a thread of the parent's may have had the other one
        self._inherited, self._connection = self._connection, None
        self._known = False

    def _repaired(self, work: Callable[[sqlite3.Connection], _T], deadline: float) -> _T:
        try:
            return self._once(work, deadline)
        except (sqlite3.DatabaseError, rows.MalformedError) as error:
            self.close()
            if not _is_damage(error):
                raise
        self._set_aside(deadline)
        return self._once(work, deadline)

    def _once(self, work: Callable[[sqlite3.Connection], _T], deadline: float) -> _T:
        while True:
            with self._locked(fcntl.LOCK_SH, deadline):
                connection = self._open(deadline)
                if connection is not None:
                    return work(connection)
            self._create(deadline)

    def _open(self, deadline: float) -> sqlite3.Connection | None:
        """The connection to the file that has this name now; None where there is no ledger yet."""
        inode = _inode(self.path)
        if self._connection is None or inode != self._inode:
            self.close()
            self._connection, self._inode = self._connect(), inode
        if self._connection is None:
            return None
        left = max(0, round((deadline - time.monotonic()) * 1000))
        self._connection.execute(f"PRAGMA busy_timeout = {left}")
        if not self._known:
            self._known = rows.version(self._connection, str(self.path)) > 0
        return self._connection if self._known else None

    def _connect(self) -> sqlite3.Connection | None:
        """Opens the file; None where there is none.

        SQLite would make a missing one with a mode of its own. Where it makes its other files it
        copies the mode and, for root, the owner of this one.
        """
        if not self.path.exists():
            return None
        if not self.path.is_file():  # SQLite would wait for somebody to write to a pipe
            raise UnwritableError(str(self.path), NO_FILE)
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=self._patience,
            isolation_level=None,
            check_same_thread=False,  # `_alone` sees to it
        )
        connection.execute("PRAGMA synchronous = NORMAL")  # no fsync(2) for each transaction
        return connection

    def _create(self, deadline: float) -> None:
        with self._locked(fcntl.LOCK_EX, deadline):
            with self._reasons():
                os.close(files.make(self.path, self._mode))
            connection = self._connect()
            if connection is not None:
                with closing(connection):
                    rows.create(connection, str(self.path))

    def _set_aside(self, deadline: float) -> None:
        """Gives a damaged file a dated name, unless somebody else has just done so."""
        with self._locked(fcntl.LOCK_EX, deadline):
            if self._is_sound():
                return
            with self._reasons():
                name = files.move_aside(self.path)
        log.info("set %s aside as %s", self.path, name)
        said = f"{self.path} was damaged: it was set aside as {name}, and what it held is forgotten"
        self.warnings += (said,)

    def _is_sound(self) -> bool:
        try:
            connection = self._connect()
        except sqlite3.DatabaseError:
            return False
        if connection is None:
            return True
        with closing(connection):
            return rows.is_sound(connection, str(self.path))

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
            raise UnwritableError(str(self.path), error.strerror or str(error)) from error

    def _busy(self) -> str:
        return f"{self.path} is busy: others kept it for {self._patience:g} s"

    def _fail(self, error: Exception) -> NoReturn:
        """Raises what a failure of SQLite means."""
        code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
        if code in _BUSY:
            raise StoreError(self._busy()) from error
        if code in _UNWRITABLE:
            full = code == sqlite3.SQLITE_FULL or files.is_full(self.path)
            reason = "the disk is full" if full else str(error)
            raise UnwritableError(str(self.path), reason) from error
        raise StoreError(f"{self.path}: {error}") from error


def read(path: Path) -> tuple[Entry, ...]:
    """Every entry of a ledger, which is not changed, and need not be writable.

    Raises:
        StoreError: it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise StoreError(f"{path} cannot be read: {NO_FILE}")
    for suffix in ("mode=ro", "immutable=1"):  # the latter where SQLite cannot make its own files
        if suffix == "immutable=1" and _size(path.with_name(f"{path.name}-wal")):
            break  # what is in there would be missed
        try:
            uri = f"{path.absolute().as_uri()}?{suffix}"
            with closing(sqlite3.connect(uri, uri=True, timeout=1.0)) as connection:
                return rows.entries(connection) if rows.version(connection, str(path)) else ()
        except rows.MalformedError as error:
            raise StoreError(f"{path}: {error}") from error
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & _PRIMARY not in _UNWRITABLE:
                raise StoreError(f"{path}: {error}") from error
    raise StoreError(f"{path} cannot be read by this user")


def _transact(
    connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], _T], begin: str
) -> _T:
    connection.execute(begin)
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise
    return result


def _is_damage(error: Exception) -> bool:
    if isinstance(error, rows.MalformedError):
        return True
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY in _DAMAGE


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
