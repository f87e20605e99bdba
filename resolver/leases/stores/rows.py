"""The ledger's tables: rows ↔ entries. Every function works within its caller's transaction."""

from __future__ import annotations

import sqlite3 as driver
from typing import TYPE_CHECKING, Any

from resolver.errors import StoreError
from resolver.leases.model import Entry, Lease, Owner
from resolver.model import Pid, PortNumber, Transport

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Mapping, Sequence

_VERSION = 1
_APPLICATION = 0x75707274  # "uprt"; sqlite.org/pragma.html#pragma_application_id
_COLUMNS = (
    "token, scope, port, transport, address, service, project, place, owner_boot, owner_namespace, "
    "owner_pid, owner_start_time, created_at, expires_at, held, boot, ends"
)
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
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != _APPLICATION and (application or found or tables):
        raise StoreError(f"{where} is another program's database")
    if found > _VERSION:
        raise StoreError(f"{where} was made by a later version of ultra-ports")
    code = "SELECT count(*) FROM sqlite_master WHERE type NOT IN ('table', 'index')"
    if database.execute(code).fetchone() != (0,):
        raise MalformedError("there are views or triggers in it")
    return int(found)


def create(database: sqlite3.Connection, where: str) -> None:
    """Makes the tables, unless they are there; nobody else has the file open meanwhile."""
    if version(database, where):
        return
    # Kept in the file; a file system without shared memory stays with a rollback journal.
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("BEGIN IMMEDIATE")
    for statement in _TABLES:
        database.execute(statement)
    database.execute(f"PRAGMA application_id = {_APPLICATION}")
    database.execute(f"PRAGMA user_version = {_VERSION}")
    database.execute("COMMIT")


def is_sound(database: sqlite3.Connection, where: str) -> bool:
    """Whether the whole of it can be read."""
    try:
        (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if version(database, where):
            entries(database)
    except (driver.DatabaseError, MalformedError):
        return False
    return bool(answer == "ok")


def touch(database: sqlite3.Connection) -> None:
    """Writes what is of no consequence: tells a full disk and a read-only file.

    SQLite writes no page that stays as it is, so it has to be a change.
    """
    database.execute("UPDATE grants SET last_token = last_token + 1")


def count(database: sqlite3.Connection) -> int:
    """How many leases there are, alive or not."""
    (found,) = database.execute("SELECT count(*) FROM lease").fetchone()
    return int(found)


def last_token(database: sqlite3.Connection) -> int:
    """Of the latest grant."""
    row = database.execute("SELECT last_token FROM grants").fetchone()
    if row is None or not isinstance(row[0], int):
        raise MalformedError("the count of grants is missing")
    return row[0]


def entries(
    database: sqlite3.Connection, ports: Collection[int] | None = None
) -> tuple[Entry, ...]:
    """Every entry, or those on the given ports.

    Raises:
        MalformedError: a row makes no sense.
    """
    statement = f"SELECT {_COLUMNS} FROM lease"  # noqa: S608 - our own words
    if ports is None:
        return tuple(map(_entry, database.execute(statement)))
    statement += " WHERE port = ?"
    return tuple(
        _entry(row) for port in sorted(ports) for row in database.execute(statement, (port,))
    )


def entry(database: sqlite3.Connection, lease: Lease) -> Entry | None:
    """The entry of this very lease; None where it was lost."""
    statement = f"SELECT {_COLUMNS} FROM lease WHERE token = ? AND scope = ? AND port = ?"  # noqa: S608
    row = database.execute(statement, (lease.token, _kept(lease.scope), lease.port)).fetchone()
    return None if row is None else _entry(row)


def insert(database: sqlite3.Connection, new: Iterable[Entry]) -> None:
    """Keeps new entries."""
    marks = ", ".join("?" * len(_COLUMNS.split(",")))
    for each in new:
        database.execute(f"INSERT INTO lease ({_COLUMNS}) VALUES ({marks})", _row(each))  # noqa: S608
        database.execute("UPDATE grants SET last_token = ?", (each.lease.token,))


def update(database: sqlite3.Connection, changed: Entry) -> None:
    """Keeps an entry's new end."""
    lease = changed.lease
    database.execute(
        "UPDATE lease SET expires_at = ?, boot = ?, ends = ? WHERE token = ?",
        (lease.expires_at, changed.boot, changed.ends, lease.token),
    )


def delete(database: sqlite3.Connection, leases: Sequence[Lease]) -> tuple[Lease, ...]:
    """Forgets these very leases; returns those that were still there."""
    statement = "DELETE FROM lease WHERE token = ? AND scope = ? AND port = ?"
    return tuple(
        lease
        for lease in leases
        if database.execute(statement, (lease.token, _kept(lease.scope), lease.port)).rowcount
    )


def remember(
    database: sqlite3.Connection, project: tuple[str, str, str], ports: Mapping[str, int]
) -> None:
    """Keeps the last port of each service; `project` is scope, project and place."""
    for service, port in ports.items():
        database.execute(
            "INSERT OR REPLACE INTO last_port VALUES (?, ?, ?, ?, ?)",
            (*map(_kept, project), _kept(service), port),
        )


def recall(database: sqlite3.Connection, project: tuple[str, str, str]) -> dict[str, int]:
    """The last port of each service; `project` is scope, project and place."""
    statement = "SELECT service, port FROM last_port WHERE scope = ? AND project = ? AND place = ?"
    rows = database.execute(statement, tuple(map(_kept, project)))
    return dict(sorted((_text(service), int(port)) for service, port in rows))


def _row(of: Entry) -> tuple[Any, ...]:
    lease, owner = of.lease, of.lease.owner
    return (
        lease.token, _kept(lease.scope), lease.port, str(lease.transport), lease.address,
        *map(_kept, (lease.service, lease.project, lease.place)),
        *((owner.boot, owner.pid_namespace, owner.pid, owner.start_time) if owner else (None,) * 4),
        lease.created_at, lease.expires_at, int(lease.held), of.boot, of.ends,
    )  # fmt: skip


def _entry(row: tuple[Any, ...]) -> Entry:
    token, scope, port, transport, address, service, project, place = row[:8]
    boot, namespace, pid, start_time, created_at, expires_at, held, granted_in, ends = row[8:]
    try:
        owner = None if boot is None else Owner(boot, namespace, Pid(int(pid)), int(start_time))
        lease = Lease(
            int(token), _text(scope), PortNumber(int(port)), Transport(transport), address,
            _text(service), _text(project), _text(place), owner, float(created_at),
            _seconds(expires_at), bool(held),
        )  # fmt: skip
        return Entry(lease, granted_in, _seconds(ends))
    except (ValueError, TypeError) as error:
        raise MalformedError(f"lease {token!a} makes no sense") from error


def _kept(text: str) -> str | bytes:
    """A text as SQLite takes it: paths of Linux are bytes, which need not be UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def _text(kept: str | bytes) -> str:
    return kept.decode("utf-8", "surrogatepass") if isinstance(kept, bytes) else kept


def _seconds(value: float | None) -> float | None:
    return None if value is None else float(value)
