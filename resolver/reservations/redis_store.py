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

import json
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from resolver.errors import StoreError
from resolver.model import Pid, PortNumber, Transport
from resolver.reservations import redis_scripts as scripts
from resolver.reservations import rules
from resolver.reservations.model import Claim, Lease, Owner
from resolver.reservations.owner import here
from resolver.reservations.redis_link import DEADLINE_SECONDS, AnswerLostError, Link
from resolver.reservations.rules import Entry, Moment
from resolver.settings import LEASE_SECONDS, RESERVATION_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from resolver.reservations.owner import Here

_PREFIX = "ultra-ports:1:"  # the format's version: another one would not read these leases
_SCOPES = f"{_PREFIX}scopes"
_ROUNDS = 50  # each that fails means that somebody else was granted one of the ports meanwhile
_REMEMBERED_SECONDS = 180 * 86_400
_SLACK_MILLISECONDS = 60_000  # a scope is listed for longer than its leases live
_CLOCK = "redis"  # stands for the boot by whose clock the leases end


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
            StoreError: the extra `ultra-ports[redis]` is not installed.
        """
        self._link = Link(url)
        self.where = self._link.address
        self._here = surroundings or here(os.environ)

    def acquire(self, claims: Sequence[Claim]) -> tuple[Lease, ...]:
        """See `LeaseStore`. All claims are of one scope where Redis is a cluster.

        Raises:
            AnswerLostError: Redis did not answer in time, so it is unknown whether it granted them.
        """
        rules.grant(claims, (), 0, self._here, Moment(0.0, _CLOCK, 0.0))  # they fit one another
        if not claims:
            return ()
        microseconds = max(self._touch(each.scope, _milliseconds(each)) for each in claims)
        verdicts: list[str] = []
        for _ in range(_ROUNDS):
            answer, found = self._grant(claims, microseconds, verdicts)
            if answer == "late":
                microseconds = int(found)
            elif answer == "seen":
                verdicts = self._verdicts(claims, _entries(found), microseconds)
            else:
                return tuple(_granted(*each) for each in zip(claims, _threes(found), strict=True))
        raise StoreError(f"{self.where}: too many others want the same ports at once; try again")

    def release(self, leases: Sequence[Lease]) -> tuple[Lease, ...]:
        """See `LeaseStore`."""
        ended = []
        for scope in dict.fromkeys(lease.scope for lease in leases):  # a cluster: one at a time
            own = [lease for lease in leases if lease.scope == scope]
            keys = [key for lease in own for key in (_port_key(lease), _index(scope))]
            values = [word for lease in own for word in (str(lease.token), _member(lease))]
            results = self._link.evaluate(scripts.END, keys, values)
            ended += [lease for lease, done in zip(own, results, strict=True) if done]
        return tuple(ended)

    def renew(self, lease: Lease, ttl_seconds: float | None) -> Lease:
        """See `LeaseStore`."""
        rules.prolonged(_entry(lease), ttl_seconds, self._here, Moment(0.0, _CLOCK, 0.0))
        milliseconds = _milliseconds(lease, ttl_seconds)
        self._touch(lease.scope, milliseconds)
        keys = [_port_key(lease), _index(lease.scope)]
        values = [str(lease.token), str(milliseconds), _member(lease)]
        value = self._link.evaluate(scripts.RENEW, keys, values)
        if not value:
            raise rules.lost(lease)
        [entry] = _entries([keys[0], str(lease.token), value])
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
            values += [_quoted(service), str(port)]
        self._link.evaluate(scripts.REMEMBER, [_last(scope, project, place)], values)

    def recall(self, scope: str, project: str, place: str) -> dict[str, int]:
        """See `LeaseStore`."""
        found = self._link.command("HGETALL", _last(scope, project, place))
        try:
            return {_unquoted(service): int(port) for service, port in found.items()}
        except (AttributeError, ValueError) as error:
            raise StoreError(f"{self.where}: what is kept there is no list of ports") from error

    def close(self) -> None:
        """Closes the connection."""
        self._link.close()

    def _touch(self, scope: str, milliseconds: int) -> int:
        """Sees to it that the scope is listed that long; returns Redis's clock in microseconds."""
        kept = str(milliseconds + _SLACK_MILLISECONDS)
        return int(self._link.evaluate(scripts.TOUCH, [_SCOPES], [_quoted(scope), kept]))

    def _grant(
        self, claims: Sequence[Claim], microseconds: int, verdicts: Sequence[str]
    ) -> tuple[str, Any]:
        keys: list[str] = []
        values = [str(microseconds + int(DEADLINE_SECONDS * 1e6)), str(len(verdicts)), *verdicts]
        for claim in claims:
            keys += [_port_key(claim), _index(claim.scope), f"{_home(claim.scope)}token"]
            values += [_member(claim), str(_milliseconds(claim)), _text(claim)]
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
        now = _moment(microseconds / 1e6)
        forgotten = rules.grant(claims, seen, 0, self._here, now).forgotten
        return [
            f"{'-' if lease in forgotten else '+'}{_port_key(lease)} {lease.token}"
            for lease in (entry.lease for entry in seen)
        ]

    def _listed(self, scope: str | None) -> Iterator[tuple[Entry, Moment]]:
        """Every lease that Redis still has, with its clock."""
        scopes = self._link.command("ZRANGE", _SCOPES, "0", "-1") if scope is None else []
        for each in sorted(map(_unquoted, scopes)) if scope is None else [scope]:
            members = self._link.command("ZRANGE", _index(each), "0", "-1")
            if members:
                keys = [f"{_home(each)}{member}" for member in members]
                milliseconds, found = self._link.evaluate(scripts.READ, keys, [])
                now = _moment(int(milliseconds) / 1000)
                for entry in _entries(found):
                    yield entry, now


def _home(scope: str) -> str:
    """The prefix of a scope's keys; a cluster keeps on one node what has the same `{…}`."""
    return f"{_PREFIX}{{@{_quoted(scope)}}}:"


def _index(scope: str) -> str:
    return f"{_home(scope)}ports"


def _last(scope: str, project: str, place: str) -> str:
    return f"{_home(scope)}last:{_quoted(project)}:{_quoted(place)}"


def _port_key(of: Claim | Lease) -> str:
    return f"{_home(of.scope)}{_member(of)}"


def _member(of: Claim | Lease) -> str:
    return f"{of.transport.value}/{of.port}"


def _quoted(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def _unquoted(text: str) -> str:
    return unquote(text, "utf-8", "surrogatepass")


def _milliseconds(of: Claim | Lease, ttl_seconds: float | None = None) -> int:
    """The time to live: the given one, else the claim's own, else what every lease here gets."""
    if ttl_seconds is None and isinstance(of, Claim):
        ttl_seconds = of.ttl_seconds
    unbounded = LEASE_SECONDS if of.held else RESERVATION_SECONDS
    return max(1, round((unbounded if ttl_seconds is None else ttl_seconds) * 1000))


def _moment(seconds: float) -> Moment:
    return Moment(seconds, _CLOCK, seconds)


def _entry(lease: Lease) -> Entry:
    return Entry(lease, _CLOCK, lease.expires_at)


def _text(claim: Claim) -> str:
    owner = claim.owner
    return json.dumps(
        {
            "scope": claim.scope,
            "port": claim.port,
            "transport": claim.transport.value,
            "address": claim.address,
            "service": claim.service,
            "project": claim.project,
            "place": claim.place,
            "owner": owner and [owner.boot, owner.pid_namespace, owner.pid, owner.start_time],
            "held": claim.held,
        },
        separators=(",", ":"),
    )


def _threes(flat: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    parts = iter(flat)
    return zip(parts, parts, parts, strict=True)


def _entries(found: Iterable[str]) -> list[Entry]:
    """What a script answered: keys, tokens and values.

    Raises:
        StoreError: something there is no lease.
    """
    try:
        return [_entry(_read(token, value)) for _, token, value in _threes(found)]
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"what Redis keeps as a lease is none: {error!a}") from error


def _read(token: str, value: str) -> Lease:
    expires, created, text = value.split(" ", 2)
    raw = json.loads(text)
    boot, pid_namespace, pid, start_time = raw["owner"] or ("", "", 0, 0)
    return Lease(
        token=int(token),
        scope=str(raw["scope"]),
        port=PortNumber(int(raw["port"])),
        transport=Transport(raw["transport"]),
        address=raw["address"],
        service=str(raw["service"]),
        project=str(raw["project"]),
        place=str(raw["place"]),
        owner=Owner(boot, pid_namespace, Pid(pid), start_time) if raw["owner"] else None,
        created_at=int(created) / 1000,
        expires_at=int(expires) / 1000,
        held=bool(raw["held"]),
    )


def _granted(claim: Claim, times: tuple[str, str, str]) -> Lease:
    token, created, expires = times
    return _read(token, f"{expires} {created} {_text(claim)}")
