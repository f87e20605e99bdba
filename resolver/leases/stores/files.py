"""The files of the ledger: locked, opened by SQLite, and set aside."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from resolver.errors import StoreError
from resolver.host import paths
from resolver.leases.stores import rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from resolver.host.own_files import Folder

_T = TypeVar("_T")
SIDES = ("-wal", "-shm", "-journal", "")  # the file itself last: it is what is found damaged
WRITE, READ = "BEGIN IMMEDIATE", "BEGIN"
_POLL_SECONDS = 0.005
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PRIMARY = 0xFF  # of an extended result code (sqlite.org/rescode.html)


class UnwritableError(StoreError):
    """The ledger cannot be made or written here, for the `reason`."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where} cannot be written: {reason}")
        self.reason = reason


@contextmanager
def reasons(where: object) -> Iterator[None]:
    """What the system refuses is a reason why the ledger cannot be written."""
    try:
        yield
    except OSError as error:
        raise UnwritableError(str(where), error.strerror or str(error)) from error


def connect(database: str, timeout_seconds: float = 0.0) -> sqlite3.Connection:
    """Opens a database, by a path or a URI, for any thread; transactions are the caller's.

    What a schema names is a stranger's where the file is (sqlite.org/security.html).
    """
    connection = sqlite3.connect(
        database,
        uri=True,
        timeout=timeout_seconds,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def transact(
    connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], _T], begin: str
) -> _T:
    """Does the work in one transaction."""
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


def primary_code(error: Exception) -> int:
    """SQLite's result code without its extension; 0 where it is no error of SQLite's."""
    return int(getattr(error, "sqlite_errorcode", 0)) & _PRIMARY


def is_damage(error: Exception) -> bool:
    """Whether it tells that the file is none of ours any more."""
    return isinstance(error, rows.MalformedError) or primary_code(error) in _DAMAGE


@contextmanager
def locked(folder: Folder, path: Path, how: int, patience: tuple[float, float]) -> Iterator[None]:
    """Has the lock file beside a ledger, which a killed process lets go of (flock(2)).

    Args:
        folder: that it is in.
        path: of the ledger.
        how: LOCK_SH or LOCK_EX.
        patience: the seconds that it may take, and the moment when they are over.

    Raises:
        UnwritableError: it cannot be made.
        StoreError: others kept it for too long.
    """
    with reasons(path):
        descriptor = folder.open(path.with_suffix(".lock").name)
    try:
        with reasons(path):
            had = _lock(descriptor, how, patience[1])
        if not had:
            raise busy(path, patience[0])
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, how: int, deadline: float) -> bool:
    """Whether the lock was to be had before the deadline."""
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        else:
            return True


def busy(path: Path, patience_seconds: float) -> StoreError:
    """What is raised when others kept the ledger for too long."""
    return StoreError(f"{path} is busy: others kept it for {patience_seconds:g} s")


def move_aside(folder: Folder, ledger: str) -> str:
    """Renames a ledger with all that belongs to it; returns its new name."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    names = (f"{ledger}.damaged-{stamp}{more}" for more in ("", *(f"-{n}" for n in range(2, 99))))
    there = folder.descriptor
    name = next(each for each in names if paths.status(there, each) is None)
    for side in SIDES:
        with suppress(FileNotFoundError):
            os.rename(ledger + side, name + side, src_dir_fd=there, dst_dir_fd=there)
    return name


def is_full(path: Path) -> bool:
    """Whether the file system that this file is on has no room left for this user."""
    try:
        return os.statvfs(path.parent).f_bavail == 0
    except OSError:
        return False
