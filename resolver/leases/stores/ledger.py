"""The ledger: leases in an SQLite file, for everybody on this machine who can see that file.

What a call may do is decided by `rules`, within one transaction; how the file is shared with other
processes is the business of `database`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from resolver.leases import rules
from resolver.leases.state import COPIES
from resolver.leases.stores import rows
from resolver.leases.stores.database import Database
from resolver.leases.stores.memory import present
from resolver.leases.stores.shared import SharedLedger
from resolver.settings import STORE_SECONDS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from resolver.leases.model import Claim, Lease
    from resolver.leases.owner import Here
    from resolver.leases.rules import Moment

log = logging.getLogger(__name__)

_MANY = 500  # leases; beyond that the dead ones are swept out in passing


class Ledger:
    """Leases in the file `path`, whose directory exists.

    Args:
        path: of the database, or of the first copy of a ledger that users share.
        where: what owners are compared with.
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
        now: Callable[[str], Moment] = present,
        patience_seconds: float = STORE_SECONDS,
    ) -> None:
        self.where = str(path)
        self._here = where
        self._now = now
        kind = SharedLedger if path.name in COPIES else Database
        self._database = kind(path, patience_seconds)
        self._run, self._look = self._database.run, self._database.look
        self._run(rows.touch)

    @property
    def warnings(self) -> tuple[str, ...]:
        """See `LeaseStore`."""
        return self._database.warnings

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
        found = self._look(rows.entries)
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
        return self._look(lambda database: rows.recall(database, (scope, project, place)))

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

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
