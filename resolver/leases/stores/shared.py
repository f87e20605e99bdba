"""The ledger in a directory that several users may write to: two copies, written by turns.

SQLite opens its files by their paths, and does what a journal beside a database says: one can have
any file deleted (sqlite.org/fileformat2.html, "the super-journal"). Where strangers may make files,
SQLite therefore opens none. A copy is read as a whole by a descriptor, changed in memory, and
written as a whole over the older one: who is killed meanwhile leaves the newer one. Everybody who
may write to the directory may change what it says, which is what it is shared for, and no more.
"""

from __future__ import annotations

import os
import time
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.host import own_files
from resolver.leases.state import COPIES
from resolver.leases.stores import rows
from resolver.leases.stores.database import BusyError, UnwritableError, connect, translated

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.host.own_files import Folder

_LOCK = "leases.lock"
_HEAD = b"ultra-ports shared ledger 1\n"
_NUMBER = 8  # bytes
_MOST_CHANGES = 1 << 62
_DIGEST = sha256().digest_size
_LONGEST = 16 << 20  # bytes of a ledger that anybody could mean
_ATTEMPTS = 20
_PAUSE_SECONDS = 0.005


class _Copy(Struct, frozen=True):
    """The `number` of a database, higher than that of the other copy where it is newer.

    It is 0, and that empty, where there is none; `torn`: there is something else, which may be the
    beginning of a copy (True) or is none (False).
    """

    number: int = 0
    database: bytes = b""
    torn: bool | None = None


class SharedDatabase:
    """The copies beside `path`, which is the first of them.

    Args:
        path: of the first copy.
        patience_seconds: how long others may keep it busy.
    """

    def __init__(self, path: Path, patience_seconds: float) -> None:
        self._path = path
        self._patience = patience_seconds

    @contextmanager
    def writing(self, *, patient: bool = True) -> Iterator[sqlite3.Connection]:
        """See `FileDatabase`."""
        with (
            translated(self._path, "written"),
            own_files.folder(self._path.parent) as folder,
            self._locked(folder, self._patience if patient else 0.0),
        ):
            copies = [_read(folder, name) for name in COPIES]
            newest = self._newest(copies)
            with closing(connect(":memory:")) as connection:
                with self._transaction(connection, newest):
                    yield connection
                database = connection.serialize()
            if len(database) > _LONGEST:
                raise UnwritableError(str(self._path), "it would be too long")
            older = COPIES[1 if newest is copies[0] and newest.number else 0]
            _write(folder, older, newest.number + 1, database)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """See `FileDatabase`."""
        with translated(self._path, "read"):
            try:
                with own_files.folder(self._path.parent) as folder:
                    newest = self._settled(folder)
            except FileNotFoundError:
                newest = _Copy()
            with closing(connect(":memory:")) as connection, self._transaction(connection, newest):
                yield connection

    @contextmanager
    def _transaction(self, connection: sqlite3.Connection, copy: _Copy) -> Iterator[None]:
        if copy.database:
            connection.deserialize(copy.database)
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            rows.prepare(connection, str(self._path))
            yield

    def _settled(self, folder: Folder) -> _Copy:
        """The newer copy, while others may be writing."""
        for _ in range(_ATTEMPTS):
            with suppress(rows.MalformedError):  # both have just been written
                return self._newest([_read(folder, name) for name in COPIES])
            time.sleep(_PAUSE_SECONDS)
        return self._newest([_read(folder, name) for name in COPIES])

    def _newest(self, copies: list[_Copy]) -> _Copy:
        """The newer of both copies.

        Where there is but the beginning of the first, nothing was ever kept: whoever made it was
        killed meanwhile.

        Raises:
            MalformedError: there is none that can be read.
        """
        first, second = copies
        newest = max(copies, key=lambda copy: copy.number)
        if newest.number:
            return newest
        if second.torn is None and first.torn is not False:
            return _Copy()
        raise rows.MalformedError("neither copy can be read")

    @contextmanager
    def _locked(self, folder: Folder, patience_seconds: float) -> Iterator[None]:
        """Has the lock file, which a killed process lets go of (flock(2))."""
        descriptor = folder.open(_LOCK)
        try:
            if not own_files.lock(descriptor, patience_seconds):
                raise BusyError(str(self._path))
            yield
        finally:
            os.close(descriptor)


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
        return _Copy(torn=raw.startswith(_HEAD) or _HEAD.startswith(raw) if raw else None)
    return _Copy(number, rest[_NUMBER:])


def _write(folder: Folder, name: str, number: int, database: bytes) -> None:
    rest = number.to_bytes(_NUMBER) + database
    with os.fdopen(folder.open(name), "wb") as file:
        file.write(_HEAD + sha256(rest).digest() + rest)
        file.truncate()
