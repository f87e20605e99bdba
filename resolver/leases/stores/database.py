"""The ledger's file: opened, made, shared with other processes, and set aside when it is damaged.

Each piece of work is one transaction (`BEGIN IMMEDIATE`; a mere look waits for no writer): a
process that is killed at any moment leaves a file that the next one rolls back. A lock file beside
it is shared by all who work on the ledger, and taken alone by whoever makes it or sets a damaged
one aside; so nobody writes to a file that was moved away. Here it is not known what leases mean.

SQLite opens its files by their paths and believes what it finds beside them, so they are in a
directory that nobody else may write to; for the others there is `shared`.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, NoReturn, TypeVar

from resolver.errors import StoreError
from resolver.host import own_files, paths
from resolver.leases.stores import files, rows, shared
from resolver.leases.stores.files import UnwritableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from resolver.host.own_files import Folder
    from resolver.leases.model import Entry

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_UNWRITABLE = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}


class Database:
    """The file `path`, in a directory that nobody else may write to.

    It stays open between two pieces of work, but not over a fork, nor when another file has taken
    its place.

    Args:
        path: of the file.
        patience_seconds: how long others may keep it busy.
    """

    _folder: Folder  # the directory, while there is work

    def __init__(self, path: Path, patience_seconds: float) -> None:
        self.path = path
        self.warnings: tuple[str, ...] = ()
        self._patience = patience_seconds
        self._pid = os.getpid()
        self._alone = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inherited: sqlite3.Connection | None = None
        self._owner = (0, 0)  # the directory's, when the connection was made
        self._inode = 0
        self._known = False  # that these are our tables

    def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Does the work in one transaction, if need be on a new file in a damaged one's place.

        Raises:
            UnwritableError: it cannot be made or written.
            StoreError: it is another program's, a later version's, or busy for too long.
        """
        return self._transacted(work, files.WRITE)

    def look(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Does work that only reads: what was committed before it began is what it sees.

        Raises:
            As `run`.
        """
        return self._transacted(work, files.READ)

    def _transacted(self, work: Callable[[sqlite3.Connection], _T], begin: str) -> _T:
        if self._pid != os.getpid():
            self._begin_anew()
        deadline = time.monotonic() + self._patience
        if not self._alone.acquire(timeout=self._patience):
            raise files.busy(self.path, self._patience)
        try:
            with self._opened():
                return self._repaired(
                    lambda database: files.transact(database, work, begin), deadline
                )
        except (sqlite3.DatabaseError, rows.MalformedError) as error:
            self._fail(error)
        finally:
            self._alone.release()

    @contextmanager
    def _opened(self) -> Iterator[None]:
        """Has the directory, with the rights of its owner and no more."""
        with files.reasons(self.path):
            folder = own_files.folder(self.path.parent)
        with folder:
            with files.reasons(self.path):
                folder.check_private()
            self._folder = folder
            with folder.acting():
                yield

    def close(self) -> None:
        """Closes the file; it is opened again when it is used again."""
        if self._connection is not None and self._pid == os.getpid():
            with own_files.acting(*self._owner):  # SQLite may remove what is beside the file
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
            if not files.is_damage(error):
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
        found = paths.status(self._folder.descriptor, self.path.name)
        inode = found.st_ino if found else 0
        if self._connection is None or inode != self._inode:
            self.close()
            self._connection, self._inode = self._connect(), inode
            self._owner = (self._folder.status.st_uid, self._folder.status.st_gid)
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
        copies the mode of this one.
        """
        with files.reasons(self.path):
            self._folder.check(*(self.path.name + side for side in files.SIDES))
            if paths.status(self._folder.descriptor, self.path.name) is None:
                return None
        connection = files.connect(f"{self.path.absolute().as_uri()}?mode=rw", self._patience)
        connection.execute("PRAGMA synchronous = NORMAL")  # no fsync(2) for each transaction
        return connection

    def _create(self, deadline: float) -> None:
        with self._locked(fcntl.LOCK_EX, deadline):
            with files.reasons(self.path):
                os.close(self._folder.open(self.path.name))
            connection = self._connect()
            if connection is not None:
                with closing(connection):
                    rows.create(connection, str(self.path))

    def _set_aside(self, deadline: float) -> None:
        """Gives a damaged file a dated name, unless somebody else has just done so."""
        with self._locked(fcntl.LOCK_EX, deadline):
            if self._is_sound():
                return
            with files.reasons(self.path):
                name = files.move_aside(self._folder, self.path.name)
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
        with files.locked(self._folder, self.path, how, (self._patience, deadline)):
            yield

    def _fail(self, error: Exception) -> NoReturn:
        """Raises what a failure of SQLite means."""
        code = files.primary_code(error)
        if code in _BUSY:
            raise files.busy(self.path, self._patience) from error
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
    try:
        with own_files.folder(path.parent) as folder:
            if folder.shared:
                return shared.SharedLedger(path).look(rows.entries)
            folder.check_private()
            with folder.acting():
                folder.check(*(path.name + side for side in files.SIDES))
                return _read(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}") from error


def _read(path: Path) -> tuple[Entry, ...]:
    for suffix in ("mode=ro", "immutable=1"):  # the latter where SQLite cannot make its own files
        if suffix == "immutable=1" and _size(path.with_name(f"{path.name}-wal")):
            break  # what is in there would be missed
        try:
            uri = f"{path.absolute().as_uri()}?{suffix}"
            with closing(files.connect(uri, 1.0)) as connection:
                return rows.entries(connection) if rows.version(connection, str(path)) else ()
        except rows.MalformedError as error:
            raise StoreError(f"{path}: {error}") from error
        except sqlite3.DatabaseError as error:
            if files.primary_code(error) not in _UNWRITABLE:
                raise StoreError(f"{path}: {error}") from error
    raise StoreError(f"{path} cannot be read by this user")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
