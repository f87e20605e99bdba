"""A store that several machines share: the same leases, arbitrated by Redis.

An acquisition is a compare-and-set: Redis is asked to grant the claims if it knows of no lease on
their ports; where it does, it answers with these leases, `rules` judges them here, as for every
other store, and Redis is asked again to grant the claims if nothing but these leases is there. It
does so in one step (`redis_scripts.GRANT`), so there is never half an acquisition, and no lock that
somebody could die with.

A token is a fence: it grows with each grant, and a lease is renewed and ended by its token alone.
Every lease has an end in Redis. One that was asked for without gets `LEASE_SECONDS` if its owner
stays to hold the port, and renews it every `RENEW_SECONDS`: where Redis has lost it, the owner
learns so then. Otherwise it gets `RESERVATION_SECONDS`, since nobody may be there to renew it; on
the owner's own machine it ends with the owner all the same.

A request that Redis gets to only after we gave up on it is void (`late`): it grants nothing when a
frozen Redis wakes up. What is left is an answer that was lost on its way: then the ports may be
reserved until their time is up, and the same request again gets them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from resolver.errors import StoreError
from resolver.leases import rules
from resolver.leases.owner import here
from resolver.leases.stores import redis_records as records
from resolver.leases.stores import redis_scripts as scripts
from resolver.leases.stores.redis_link import DEADLINE_SECONDS, AnswerLostError, Link

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from resolver.leases.model import Claim, Entry, Lease
    from resolver.leases.owner import Here
    from resolver.leases.rules import Moment

_ROUNDS = 50  # each that fails means that somebody else was granted one of the ports meanwhile
_REMEMBERED_SECONDS = 180 * 86_400
_SLACK_MILLISECONDS = 60_000  # a scope is listed for longer than its leases live


class RedisStore:
    """The leases in one Redis, or in a Redis Cluster."""

    lasting = True
    warnings: tuple[str, ...] = ()

    def __init__(self, url: str, surroundings: Here | None = None) -> None:
        """Checks the URL and connects to nothing yet.

        Args:
            url: `redis://[user:password@]host:port/db`, `rediss://…` or `unix://PATH?db=0`.
            surroundings: what owners are compared with; those of this process by default.

        Raises:
            UsageError: it is no such URL.
        """
        self._link = Link(url)
        self.where = self._link.address
        self._here = surroundings or here(os.environ)

    def acquire(self, claims: Sequence[Claim]) -> tuple[Lease, ...]:
        """See `LeaseStore`. All claims are of one scope where Redis is a cluster.

        Raises:
            AnswerLostError: Redis did not answer in time, so it is unknown whether it granted them.
        """
        rules.grant(claims, (), 0, self._here, records.moment(0.0))  # they fit one another
        if not claims:
            return ()
        microseconds = max(self._touch(each.scope, records.milliseconds(each)) for each in claims)
        verdicts: list[str] = []
        for _ in range(_ROUNDS):
            answer, found = self._grant(claims, microseconds, verdicts)
            if answer == "late":
                microseconds = int(found)
            elif answer == "seen":
                verdicts = self._verdicts(claims, records.entries(found), microseconds)
            else:
                return records.granted(claims, found)
        raise StoreError(f"{self.where}: too many others want the same ports at once; try again")

    def release(self, leases: Sequence[Lease]) -> tuple[Lease, ...]:
        """See `LeaseStore`."""
        ended = []
        for scope in dict.fromkeys(lease.scope for lease in leases):  # a cluster: one at a time
            own = [lease for lease in leases if lease.scope == scope]
            keys = [key for lease in own for key in (records.port_key(lease), records.index(scope))]
            values = [word for lease in own for word in (str(lease.token), records.member(lease))]
            results = self._link.evaluate(scripts.END, keys, values)
            ended += [lease for lease, done in zip(own, results, strict=True) if done]
        return tuple(ended)

    def renew(self, lease: Lease, ttl_seconds: float | None) -> Lease:
        """See `LeaseStore`."""
        rules.prolonged(records.entry(lease), ttl_seconds, self._here, records.moment(0.0))
        milliseconds = records.milliseconds(lease, ttl_seconds)
        self._touch(lease.scope, milliseconds)
        keys = [records.port_key(lease), records.index(lease.scope)]
        values = [str(lease.token), str(milliseconds), records.member(lease)]
        value = self._link.evaluate(scripts.RENEW, keys, values)
        if not value:
            raise rules.lost(lease)
        [entry] = records.entries([keys[0], str(lease.token), value])
        return entry.lease

    def leases(self, scope: str | None = None) -> tuple[Lease, ...]:
        """See `LeaseStore`."""
        return rules.sorted_leases(
            entry.lease
            for entry, now in self._listed(scope)
            if rules.is_alive(entry, self._here, now)
        )

    def prune(self) -> tuple[Lease, ...]:
        """See `LeaseStore`. What Redis has forgotten by itself is not among them."""
        over = [
            entry.lease
            for entry, now in self._listed(None)
            if not rules.is_alive(entry, self._here, now)
        ]
        return rules.sorted_leases(self.release(over))

    def remember(self, scope: str, project: str, place: str, ports: Mapping[str, int]) -> None:
        """See `LeaseStore`. Half a year after the last time they are forgotten."""
        values = [str(_REMEMBERED_SECONDS * 1000)]
        for service, port in ports.items():
            values += [records.quoted(service), str(port)]
        self._link.evaluate(scripts.REMEMBER, [records.last(scope, project, place)], values)

    def recall(self, scope: str, project: str, place: str) -> dict[str, int]:
        """See `LeaseStore`."""
        found = self._link.command("HGETALL", records.last(scope, project, place))
        try:
            return {records.unquoted(service): int(port) for service, port in found.items()}
        except (AttributeError, ValueError) as error:
            raise StoreError(f"{self.where}: what is kept there is no list of ports") from error

    def close(self) -> None:
        """Closes the connection."""
        self._link.close()

    def _touch(self, scope: str, milliseconds: int) -> int:
        """Sees to it that the scope is listed that long; returns Redis's clock in microseconds."""
        kept = str(milliseconds + _SLACK_MILLISECONDS)
        return int(
            self._link.evaluate(scripts.TOUCH, [records.SCOPES], [records.quoted(scope), kept])
        )

    def _grant(
        self, claims: Sequence[Claim], microseconds: int, verdicts: Sequence[str]
    ) -> tuple[str, Any]:
        keys: list[str] = []
        values = [str(microseconds + int(DEADLINE_SECONDS * 1e6)), str(len(verdicts)), *verdicts]
        for claim in claims:
            keys += [
                records.port_key(claim),
                records.index(claim.scope),
                f"{records.home(claim.scope)}token",
            ]
            values += [records.member(claim), str(records.milliseconds(claim)), records.text(claim)]
        try:
            answer, found = self._link.evaluate(scripts.GRANT, keys, values)
        except AnswerLostError as error:
            raise AnswerLostError(
                f"{error}; whether the ports are reserved now is not known: the same command again "
                "is safe, and otherwise their time runs out"
            ) from error
        return answer, found

    def _verdicts(
        self, claims: Sequence[Claim], seen: Sequence[Entry], microseconds: int
    ) -> list[str]:
        """`-` for each lease that the claims replace, `+` for each that is in nobody's way."""
        now = records.moment(microseconds / 1e6)
        forgotten = rules.grant(claims, seen, 0, self._here, now).forgotten
        return [
            f"{'-' if lease in forgotten else '+'}{records.port_key(lease)} {lease.token}"
            for lease in (entry.lease for entry in seen)
        ]

    def _listed(self, scope: str | None) -> Iterator[tuple[Entry, Moment]]:
        """Every lease that Redis still has, with its clock."""
        scopes = self._link.command("ZRANGE", records.SCOPES, "0", "-1") if scope is None else []
        for each in sorted(map(records.unquoted, scopes)) if scope is None else [scope]:
            members = self._link.command("ZRANGE", records.index(each), "0", "-1")
            if members:
                keys = [f"{records.home(each)}{member}" for member in members]
                milliseconds, found = self._link.evaluate(scripts.READ, keys, [])
                now = records.moment(int(milliseconds) / 1000)
                for entry in records.entries(found):
                    yield entry, now
