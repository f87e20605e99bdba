"""The ledger in a directory that several users may write to: two copies, written by turns.

SQLite opens its files by their paths, and does what a journal beside a database says: one can have
any file deleted (sqlite.org/fileformat2.html, "the super-journal"). Where strangers may make files,
SQLite therefore opens none. A copy is read as a whole by a descriptor, changed in memory, and
written as a whole over the older one: who is killed meanwhile leaves the newer one. Everybody who
may write to the directory may change what it says, which is what it is shared for, and no more.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from contextlib import closing, contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from resolver.errors import StoreError
from resolver.host import own_files
from resolver.leases.state import COPIES
from resolver.leases.stores import files, rows
from resolver.leases.stores.files import UnwritableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from resolver.host.own_files import Folder

_T = TypeVar("_T")
_HEAD = b"ultra-ports shared ledger 1\n"
_NUMBER = 8  # bytes
_MOST_CHANGES = 1 << 62
_DIGEST = sha256().digest_size
_LONGEST = 16 << 20  # bytes of a ledger that anybody could mean
_ATTEMPTS = 20
_PAUSE_SECONDS = 0.005


class _Copy(Struct, frozen=True):
    """The `number` of a database, higher than that of the other copy where it is newer.

    It is 0, and that empty, where there is none; `damaged`: there is something else.
    """

    number: int = 0
    database: bytes = b""
    damaged: bool = False


class SharedLedger:
    """The copies beside `path`, which is the first of them; used like a `Database`.

    Args:
        path: of the first copy.
        patience_seconds: how long others may keep it busy.
    """

    def __init__(self, path: Path, patience_seconds: float = 1.0) -> None:
        self.path = path
        self.warnings: tuple[str, ...] = ()
        self._patience = patience_seconds

    def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Does the work, and keeps what it made of the ledger; see `Database`."""
        deadline = time.monotonic() + self._patience
        with (
            self._opened() as folder,
            files.locked(folder, self.path, fcntl.LOCK_EX, (self._patience, deadline)),
        ):
            with files.reasons(self.path):
                first, second = (_read(folder, name) for name in COPIES)
            newest, older = (first, 1) if first.number > second.number else (second, 0)
            damaged = first.damaged or second.damaged
            database, result = self._worked(newest.database, damaged, work)
            if len(database) > _LONGEST:
                raise UnwritableError(str(self.path), "it would be too long")
            with files.reasons(self.path):
                _write(folder, COPIES[older], newest.number + 1, database)
        return result

    def look(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Does work that only reads, and waits for no writer; see `Database`."""
        with self._opened() as folder, files.reasons(self.path):
            found = _newest(folder)
        try:
            return self._in_memory(found, work)[1]
        except (sqlite3.DatabaseError, rows.MalformedError) as error:
            raise StoreError(f"{self.path}: {error}") from error

    def close(self) -> None:
        """Has nothing open."""

    @contextmanager
    def _opened(self) -> Iterator[Folder]:
        with files.reasons(self.path):
            folder = own_files.folder(self.path.parent)
        with folder:
            yield folder

    def _worked(
        self, database: bytes, damaged: object, work: Callable[[sqlite3.Connection], _T]
    ) -> tuple[bytes, _T]:
        """The work done on a database; on a new one where that makes no sense."""
        try:
            if database or not damaged:
                return self._in_memory(database, work)
        except (sqlite3.DatabaseError, rows.MalformedError):
            if not database:
                raise
        self.warnings += (f"{self.path} was damaged: what it held is forgotten",)
        return self._in_memory(b"", work)

    def _in_memory(
        self, database: bytes, work: Callable[[sqlite3.Connection], _T]
    ) -> tuple[bytes, _T]:
        with closing(files.connect(":memory:")) as connection:
            if database:
                connection.deserialize(database)
            rows.create(connection, str(self.path))
            result = files.transact(connection, work, files.WRITE)
            return connection.serialize(), result


def _newest(folder: Folder) -> bytes:
    """The newer database; empty where there is none."""
    for attempt in range(_ATTEMPTS):
        copies = [_read(folder, name) for name in COPIES]
        newest = max(copies, key=lambda copy: copy.number).database
        if newest or not any(copy.damaged for copy in copies):
            return newest
        time.sleep(_PAUSE_SECONDS * bool(attempt))  # both may just have been written
    return b""


def _read(folder: Folder, name: str) -> _Copy:
    try:
        opened = folder.open(name, make=False)
    except FileNotFoundError:
        return _Copy()
    with os.fdopen(opened, "rb") as file:
        raw = file.read(2 * _LONGEST)
    head, digest = raw[: len(_HEAD)], raw[len(_HEAD) : len(_HEAD) + _DIGEST]
    rest = raw[len(_HEAD) + _DIGEST :]
    number = int.from_bytes(rest[:_NUMBER])
    if head != _HEAD or digest != sha256(rest).digest() or number > _MOST_CHANGES:
        return _Copy(damaged=bool(raw))
    return _Copy(number, rest[_NUMBER:])


def _write(folder: Folder, name: str, number: int, database: bytes) -> None:
    rest = number.to_bytes(_NUMBER) + database
    with os.fdopen(folder.open(name), "wb") as file:
        file.write(_HEAD + sha256(rest).digest() + rest)
        file.truncate()
