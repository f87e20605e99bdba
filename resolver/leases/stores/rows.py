"""The ledger's tables: rows ↔ entries. Every function works within its caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import ValidationError
from msgspec.structs import astuple

from resolver.errors import StoreError
from resolver.json_text import convert
from resolver.leases.model import Entry, Lease, Owner

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Sequence

_VERSION = 1  # an older one is brought up to date by `prepare`
_APPLICATION = 0x75707274  # "uprt"; sqlite.org/pragma.html#pragma_application_id
_NOBODY = (None,) * len(Owner.__struct_fields__)
_TABLES = (
    """CREATE TABLE lease (
        token INTEGER PRIMARY KEY,
        scope TEXT NOT NULL,
        port INTEGER NOT NULL,
        transport TEXT NOT NULL,
        address TEXT,
        service TEXT NOT NULL,
        project TEXT NOT NULL,
        place TEXT NOT NULL,
        owner_boot TEXT,
        owner_namespace TEXT,
        owner_pid INTEGER,
        owner_start_time INTEGER,
        created_at REAL NOT NULL,
        expires_at REAL,
        held INTEGER NOT NULL,
        boot TEXT NOT NULL,
        ends REAL
    )""",
    "CREATE INDEX lease_port ON lease (port)",
    """CREATE TABLE last_port (
        scope TEXT NOT NULL,
        project TEXT NOT NULL,
        place TEXT NOT NULL,
        service TEXT NOT NULL,
        port INTEGER NOT NULL,
        PRIMARY KEY (scope, project, place, service)
    ) WITHOUT ROWID""",
    "CREATE TABLE grants (last_token INTEGER NOT NULL)",
    "INSERT INTO grants VALUES (0)",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_VERSION}",
)


class MalformedError(Exception):
    """There is something in it that this program never writes."""


def version(database: sqlite3.Connection, where: str) -> int:
    """The version of the tables; 0 where there are none yet.

    Raises:
        StoreError: it is another program's database, or a later version's.
        MalformedError: there is more than tables in it: a view may take for ever, and a trigger
            does what nobody asked for.
    """
    (found,) = database.execute("PRAGMA user_version").fetchone()
    (application,) = database.execute("PRAGMA application_id").fetchone()
    kinds = {kind for (kind,) in database.execute("SELECT type FROM sqlite_master")}
    if application != _APPLICATION and (application or found or kinds):
        raise StoreError(f"{where} is another program's database")
    if found > _VERSION:
        raise StoreError(f"{where} was made by a later version of ultra-ports")
    if kinds - {"table", "index"}:
        raise MalformedError("there are views or triggers in it")
    return int(found)


def prepare(database: sqlite3.Connection, where: str) -> None:
    """Makes the tables, unless they are there.

    Raises:
        As `version`.
    """
    if not version(database, where):
        for statement in _TABLES:
            database.execute(statement)


def entries(
    database: sqlite3.Connection, ports: Collection[int] | None = None
) -> tuple[Entry, ...]:
    """Every entry, or those on the given ports.

    Raises:
        MalformedError: a row makes no sense.
    """
    if ports is None:
        return tuple(map(_entry, database.execute("SELECT * FROM lease")))
    statement = "SELECT * FROM lease WHERE port = ?"
    found = (row for port in sorted(ports) for row in database.execute(statement, (port,)))
    return tuple(map(_entry, found))


def last_token(database: sqlite3.Connection) -> int:
    """Of the latest grant.

    Raises:
        MalformedError: that is missing.
    """
    row = database.execute("SELECT last_token FROM grants").fetchone()
    if row is None or not isinstance(row[0], int):
        raise MalformedError("the count of grants is missing")
    return row[0]


def insert(database: sqlite3.Connection, new: Iterable[Entry]) -> None:
    """Keeps new entries."""
    for each in new:
        row = _row(each)
        marks = ", ".join("?" * len(row))
        database.execute(f"INSERT INTO lease VALUES ({marks})", row)  # noqa: S608 - marks alone
        database.execute("UPDATE grants SET last_token = ?", (each.lease.token,))


def delete(database: sqlite3.Connection, leases: Sequence[Lease]) -> tuple[Lease, ...]:
    """Forgets these very leases; returns those that were still there."""
    statement = "DELETE FROM lease WHERE token = ? AND scope = ? AND port = ?"
    return tuple(
        lease
        for lease in leases
        if database.execute(statement, (lease.token, kept(lease.scope), lease.port)).rowcount
    )


def _row(of: Entry) -> tuple[Any, ...]:
    *fields, owner, created_at, expires_at, held = astuple(of.lease)
    owned = astuple(owner) if owner else _NOBODY
    return tuple(map(kept, (*fields, *owned, created_at, expires_at, held, of.boot, of.ends)))


def _entry(row: Sequence[Any]) -> Entry:
    values = [read(each) if isinstance(each, bytes) else each for each in row]
    *fields, in_boot, namespace, pid, start, created_at, expires_at, held, boot, ends = values
    owned = dict(zip(Owner.__struct_fields__, (in_boot, namespace, pid, start), strict=True))
    fields += (None if in_boot is None else owned, created_at, expires_at, bool(held))
    lease = dict(zip(Lease.__struct_fields__, fields, strict=True))
    try:
        return convert({"lease": lease, "boot": boot, "ends": ends}, Entry)
    except ValidationError as error:
        raise MalformedError(f"lease {fields[0]!a} makes no sense: {error}") from error


def kept(value: Any) -> Any:  # noqa: ANN401 - whatever SQLite takes
    """A value as SQLite takes it: paths of Linux are bytes, which need not be UTF-8."""
    if not isinstance(value, str):
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")
    return str(value)


def read(value: str | bytes) -> str:
    """The text as it was kept.

    Raises:
        MalformedError: it is none.
    """
    if isinstance(value, str):
        return value
    try:
        return value.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise MalformedError(f"{value[:20]!a} is no text") from error
