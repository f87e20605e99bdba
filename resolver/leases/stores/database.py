"""Where the ledger's tables are: in a file, or in memory.

Here it is not known what leases mean. SQLite opens its files by their paths and believes what it
finds beside them, so they are in a directory that nobody else may write to; for the others there is
`shared`. A process that is killed at any moment leaves a file that the next one rolls back. No
connection outlives its transaction, nor a fork, nor the file that another one takes the place of.
"""

from __future__ import annotations

import errno
import os
import shlex
import sqlite3
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING

from resolver.errors import StoreError
from resolver.host import own_files, paths
from resolver.leases.stores import rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from resolver.host.own_files import Folder
    from resolver.leases.model import Entry

_LOGS = ("-wal", "-journal")  # sqlite.org/tempfiles.html
_SIDES = (*_LOGS, "-shm", "")
_PAUSE_SECONDS = 0.01
_PRIMARY = 0xFF  # of an extended result code (sqlite.org/rescode.html)
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_REFUSED = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
}


class UnwritableError(StoreError):
    """The ledger cannot be made or written here, for the `reason`."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where} cannot be written: {reason}")
        self.reason = reason


class BusyError(StoreError):
    """Others write to the ledger, and kept it for too long."""

    def __init__(self, where: str) -> None:
        super().__init__(f"{where} is busy: others kept it for too long")


class FileDatabase:
    """The file `path`, in a directory that nobody else may write to; opened for each transaction.

    Args:
        path: of the file; its directory need not exist for reading.
        patience_seconds: how long others may keep it busy.
    """

    def __init__(self, path: Path, patience_seconds: float) -> None:
        self._path = path
        self._patience = patience_seconds

    @contextmanager
    def writing(self, *, patient: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction that nobody else writes beside, undone where its body raises.

        Args:
            patient: waits for others who write.

        Raises:
            BusyError: others write to it, for too long.
            UnwritableError: it cannot be made or written.
            StoreError: it is damaged, another program's, or a later version's.
        """
        with translated(self._path, "written"), self._opened() as folder:
            if paths.status(folder.descriptor, self._path.name) is None:
                os.close(folder.open(self._path.name))  # SQLite would choose a mode of its own
            with closing(self._connect("mode=rw")) as connection, connection:
                connection.execute("PRAGMA synchronous = NORMAL")  # no fsync(2) of the log
                self._begin(connection, self._patience if patient else 0.0)
                rows.prepare(connection, str(self._path))
                yield connection

    def _begin(self, connection: sqlite3.Connection, patience_seconds: float) -> None:
        """Waits for its turn to write, and asks for it as often as everybody else does.

        SQLite's own waiting asks ever more rarely (sqlite3_busy_timeout), so that where many want
        to write, those who have waited the longest are passed by those who have just come.
        """
        deadline = time.monotonic() + patience_seconds
        connection.execute("PRAGMA busy_timeout = 0")
        while True:
            try:
                if connection.execute("PRAGMA user_version").fetchone() == (0,):
                    _log_ahead(connection)
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() >= deadline:
                    raise
                time.sleep(_PAUSE_SECONDS)
            else:
                break
        connection.execute(f"PRAGMA busy_timeout = {int(self._patience * 1000)}")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A transaction that sees what was committed before, waits for nobody and makes nothing.

        Raises:
            StoreError: it cannot be read, or as `writing`.
        """
        with translated(self._path, "read"), ExitStack() as stack:
            found = None
            with suppress(FileNotFoundError):  # nothing was ever kept
                folder = stack.enter_context(self._opened())
                os.stat(self._path.name, dir_fd=folder.descriptor)
                found = stack.enter_context(closing(self._readable(folder)))
                stack.enter_context(found).execute("BEGIN")
            if found is None or not rows.version(found, str(self._path)):
                found = stack.enter_context(closing(empty()))
            yield found

    @contextmanager
    def _opened(self) -> Iterator[Folder]:
        """The directory, within which root has its owner's rights on files, and no more."""
        with own_files.folder(self._path.parent) as folder:
            folder.check_private()
            with folder.acting():
                folder.check(*(self._path.name + side for side in _SIDES))
                yield folder

    def _readable(self, folder: Folder) -> sqlite3.Connection:
        """Opens the file without changing it."""
        try:
            return self._connect("mode=ro")
        except sqlite3.OperationalError:
            logs = (paths.status(folder.descriptor, self._path.name + side) for side in _LOGS)
            if any(log and log.st_size for log in logs):
                raise  # what is in there would be missed
            return self._connect("immutable=1")  # where SQLite cannot make its own files

    def _connect(self, parameters: str) -> sqlite3.Connection:
        return connect(f"{self._path.absolute().as_uri()}?{parameters}", self._patience)


class MemoryDatabase:
    """Tables of this process alone.

    Args:
        found: what is in them from the start.
    """

    def __init__(self, found: Iterable[Entry] = ()) -> None:
        self._connection = empty()
        self._alone = threading.Lock()
        rows.insert(self._connection, found)

    @contextmanager
    def writing(self, **_: bool) -> Iterator[sqlite3.Connection]:
        """See `FileDatabase`."""
        with self._alone, self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection

    reading = writing

    def __del__(self) -> None:
        self._connection.close()


def connect(database: str, timeout_seconds: float = 0.0) -> sqlite3.Connection:
    """Opens a database, by a path or a URI, for any thread; transactions are the caller's.

    What a schema names is a stranger's where the file is (sqlite.org/security.html).
    """
    connection = sqlite3.connect(
        database, uri=True, timeout=timeout_seconds, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA user_version")  # only now the file is opened
    except BaseException:
        connection.close()
        raise
    return connection


def _log_ahead(connection: sqlite3.Connection) -> None:
    """Gives a new database a write-ahead log; a rollback journal will do where there can be none.

    Raises:
        sqlite3.OperationalError: others are using it.
    """
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        if _is_busy(error):
            raise


def empty() -> sqlite3.Connection:
    """Tables in memory without any row."""
    connection = connect(":memory:")
    rows.prepare(connection, "memory")
    return connection


@contextmanager
def translated(path: Path, what: str) -> Iterator[None]:
    """Raises what failures of the system and of SQLite mean for a ledger.

    Args:
        path: of the ledger.
        what: is done to it: `written` or `read`.

    Raises:
        UnwritableError: it cannot be written.
        StoreError: anything else.
    """
    try:
        yield
    except OSError as error:
        raise _refused(path, what, error.strerror or str(error)) from error
    except rows.MalformedError as error:
        raise _damaged(path, error) from error
    except sqlite3.Error as error:
        if _is_busy(error):
            raise BusyError(str(path)) from error
        if _code(error) in _REFUSED:
            raise _refused(path, what, _reason(path, error)) from error
        raise _damaged(path, error) from error


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & _PRIMARY


def _is_busy(error: sqlite3.Error) -> bool:
    return _code(error) in _BUSY


def _refused(path: Path, what: str, reason: str) -> StoreError:
    if what == "written":
        return UnwritableError(str(path), reason)
    return StoreError(f"{path} cannot be read by this user: {reason}")


def _damaged(path: Path, error: Exception) -> StoreError:
    quoted = shlex.quote(str(path))
    return StoreError(
        f"{path} is damaged, and nothing was changed in it: {error}",
        f"`mv {quoted} {quoted}.damaged` forgets what is reserved there",
    )


def _reason(path: Path, error: sqlite3.Error) -> str:
    """Why SQLite could not open or write it: of what the system answered it tells nothing."""
    try:
        system = os.statvfs(path.parent)
    except OSError:
        return str(error)
    if system.f_bavail == 0:
        return "the disk is full"
    if system.f_flag & os.ST_RDONLY:
        return os.strerror(errno.EROFS)
    return str(error) if os.access(path, os.R_OK | os.W_OK) else os.strerror(errno.EACCES)
