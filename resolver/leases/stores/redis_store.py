"""A store that several machines share: the same leases, arbitrated by Redis 5 or later.

An acquisition is a compare-and-set in one step: Redis grants the claims if it knows of no lease on
their ports; else it answers with these, `rules` judges them here, as for every store, and Redis is
asked again to grant the claims if nothing but these leases is there. What it gets to only after we
gave up on it is void (`late`). A port of a scope is one hash, since a wildcard collides with every
address: its fields are tokens, a value is `EXPIRES CREATED {claim}` in milliseconds by its clock.

A token grows with each grant, even after Redis forgot the last: a lease is renewed and ended by it.
Every lease has an end. One that was asked for without gets `LEASE_SECONDS` if its owner stays to
hold the port, and renews it, else `RESERVATION_SECONDS`, since nobody may be there to.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from msgspec import ValidationError
from msgspec.structs import asdict, astuple
from redis import Redis, RedisCluster, exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from resolver.errors import StoreError, UsageError
from resolver.json_text import convert
from resolver.leases import rules
from resolver.leases.model import Claim, Entry, Lease, Owner
from resolver.leases.rules import LeasedError, Moment
from resolver.settings import LEASE_SECONDS, RESERVATION_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from resolver.leases.owner import Here

_PREFIX = "ultra-ports:1:"  # the format's version: another one would not read these leases
_CLOCK = "redis"  # stands for the boot by whose clock the leases end
_ROUNDS = 50  # each that fails means that somebody else was granted one of the ports meanwhile
_REMEMBERED_SECONDS = 180 * 86_400
_UTF8 = ("utf-8", "surrogatepass")  # paths of Linux are bytes
_DEADLINE_SECONDS = 2.0  # for a connection, and for each answer
_KEEPS = "noeviction"
_NO_URL = "ULTRA_PORTS_STORE is no URL of a Redis: redis://host:6379/0"
_UNKNOWN = (
    "whether the ports are reserved now is not known: the same command again is safe, and "
    "otherwise their time runs out"
)
_LOST = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
_FAILED = (exceptions.RedisError, exceptions.RedisClusterException, ValueError, AttributeError)
_OPTIONS: dict[str, Any] = {
    "socket_connect_timeout": _DEADLINE_SECONDS,
    "socket_timeout": _DEADLINE_SECONDS,
    "decode_responses": True,
    "encoding_errors": "surrogateescape",
    "protocol": 2,
}


class Connection:
    """One Redis or one cluster, by its URL; nothing is connected before it is asked."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._examined = False
        self._client: Any  # its commands have no types
        try:  # what a lost answer means is decided by the caller: nothing is sent twice
            self._client = Redis.from_url(url, retry=Retry(NoBackoff(), 0), **_OPTIONS)
        except (ValueError, TypeError) as error:  # its own text may quote the password
            raise UsageError(_NO_URL) from error
        scheme, _, rest = url.partition("?")[0].partition("://")
        self.address = f"{scheme}://{rest.rpartition('@')[2]}"
        if self.address.endswith("/"):
            raise UsageError(_NO_URL)

    @contextmanager
    def asked(self) -> Iterator[Any]:
        """The client of redis-py; its failures are told as a StoreError without a password."""
        try:
            if not self._examined:
                self._examine()
            yield self._client
        except _LOST as error:  # once it was examined, it was sent, and perhaps carried out
            unknown = f"; {_UNKNOWN}" if self._examined else ""
            raise StoreError(f"{self._message(error)}{unknown}") from error
        except _FAILED as error:
            raise StoreError(self._message(error)) from error

    def close(self) -> None:
        """Closes every connection."""
        self._client.close()

    def _examine(self) -> None:
        """Connects, and refuses a Redis that might forget a lease or tell an old tale."""
        try:
            self._client.ping()
            nodes = [self._client.info()]
            if nodes[0].get("cluster_enabled"):
                self.close()
                self._client = RedisCluster.from_url(self._url, **_OPTIONS)
                nodes = list(self._client.info(target_nodes=RedisCluster.PRIMARIES).values())
        except exceptions.NoPermissionError:  # a replica still refuses to write
            nodes = []
        for facts in nodes:
            if facts.get("role") == "slave":
                raise StoreError(f"{self.address} is a replica: reservations need the primary")
            if facts.get("maxmemory") and (policy := facts.get("maxmemory_policy")) != _KEEPS:
                raise StoreError(
                    f"{self.address} may forget a lease when memory is short (maxmemory-policy "
                    f"{policy}), and a port would be reserved twice",
                    f"redis-cli config set maxmemory-policy {_KEEPS}",
                )
        self._examined = True

    def _message(self, error: Exception) -> str:
        """One line, without which command of ours it was."""
        if isinstance(error, exceptions.TimeoutError | TimeoutError):
            return f"{self.address} does not answer within {_DEADLINE_SECONDS:g} s"
        text = str(error).rpartition("caused error: ")[2].partition(" script: ")[0]
        return f"{self.address}: {' '.join(text.split()).rstrip('.') or type(error).__name__}"


_SCRIPT = """
-- Everything is read before the first write, which is one that Redis refuses when it is out of
-- memory or may not write: half of it never happens.
-- KEYS, for each port: its leases, its scope's index of ports, its scope's last token.
-- renew TOKEN MILLISECONDS: a new end.  Returns {TOKEN, VALUE}, or nothing if it is over.
-- grant LIMIT COUNT, that many of '+KEY TOKEN' (may stay) and '-KEY TOKEN' (is replaced), then for
-- each port MILLISECONDS and TEXT.  Returns the microseconds, and: late, where the time LIMIT is
-- over; seen TOKEN VALUE ...; or granted TOKEN VALUE ...
local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now = math.floor(now_us / 1000)
local function whole(number) return string.format('%.0f', number) end
local function lasts(key, ttl)
  if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, whole(ttl)) end
end
local function keep(i, token, rest, ttl)
  local value, member = whole(now + ttl) .. rest, KEYS[i]:match('[^:]+$')
  local old = redis.call('ZSCORE', KEYS[i + 1], member)
  redis.call('HSET', KEYS[i], token, value)
  redis.call('ZADD', KEYS[i + 1], whole(math.max(old or 0, now + ttl)), member)
  lasts(KEYS[i], ttl)
  lasts(KEYS[i + 1], ttl)
  return value
end
if ARGV[1] == 'renew' then
  local expires, rest = (redis.call('HGET', KEYS[1], ARGV[2]) or ''):match('^(%d+)( %d+ .*)$')
  if not expires or tonumber(expires) <= now then return {} end
  return {ARGV[2], keep(1, ARGV[2], rest, tonumber(ARGV[3]))}
end
if now_us > tonumber(ARGV[2]) then return {whole(now_us), 'late'} end
local verdicts, first = {}, 4 + ARGV[3]
for i = 4, first - 1 do verdicts[ARGV[i]:sub(2)] = ARGV[i]:sub(1, 1) end
local seen, drop, unseen = {whole(now_us), 'seen'}, {}, false
for i = 1, #KEYS, 3 do
  local found = redis.call('HGETALL', KEYS[i])
  for j = 1, #found, 2 do
    local expires = found[j + 1]:match('^(%d+) %d+ ')
    if not expires then return redis.error_reply('ERR ' .. KEYS[i] .. ' is no list of leases') end
    local verdict = verdicts[KEYS[i] .. ' ' .. found[j]]
    if verdict == '-' or tonumber(expires) <= now then
      drop[#drop + 1] = {KEYS[i], found[j]}
    else
      unseen = unseen or verdict ~= '+'
      seen[#seen + 1], seen[#seen + 2] = found[j], found[j + 1]
    end
  end
  redis.call('ZCARD', KEYS[i + 1])
  redis.call('GET', KEYS[i + 2])
end
if unseen then return seen end
local granted = {whole(now_us), 'granted'}
for i = 1, #KEYS, 3 do
  local ttl, text = unpack(ARGV, first + (i - 1) / 3 * 2)
  local token = whole(math.max((redis.call('GET', KEYS[i + 2]) or 0) + 1, now_us))
  redis.call('SET', KEYS[i + 2], token, 'PX', 2592000000)
  redis.call('ZREMRANGEBYSCORE', KEYS[i + 1], '-inf', whole(now))
  local value = keep(i, token, ' ' .. whole(now) .. ' ' .. text, tonumber(ttl))
  granted[#granted + 1], granted[#granted + 2] = token, value
end
for _, each in ipairs(drop) do redis.call('HDEL', each[1], each[2]) end
return granted
"""


class RedisStore:
    """The leases in one Redis, or in a Redis Cluster; `url` is as for `Connection`."""

    lasting = True
    warnings: tuple[str, ...] = ()

    def __init__(self, url: str, where: Here) -> None:
        self._redis = Connection(url)
        self.where = self._redis.address
        self._here = where

    def acquire(self, claims: Sequence[Claim]) -> tuple[Lease, ...]:
        """See `LeaseStore`. All claims are of one scope where Redis is a cluster."""
        rules.grant(claims, (), 0, self._here, _moment(0))  # they fit one another
        if not claims:
            return ()
        now, verdicts = 0, list[str]()
        for _ in range(_ROUNDS):
            now, answer, entries = self._grant(claims, now, verdicts)
            leases = [entry.lease for entry in entries]
            if answer == "granted":
                return tuple(leases)
            forgotten, _ = rules.grant(claims, entries, 0, self._here, _moment(now))
            verdicts = [
                f"{'-' if lease in forgotten else '+'}{_port(lease)} {lease.token}"
                for lease in leases
            ]
        raise StoreError(f"{self.where}: too many others want the same ports at once; try again")

    def acquire_first(self, claims: Iterable[Claim]) -> tuple[Lease | None, tuple[Lease, ...]]:
        """See `LeaseStore`. Redis is asked for one after the other."""
        hindering: list[Lease] = []
        for claim in claims:
            try:
                return self.acquire([claim])[0], tuple(hindering)
            except LeasedError as error:
                hindering.append(error.lease)
        return None, tuple(hindering)

    def release(self, leases: Sequence[Lease]) -> tuple[Lease, ...]:
        """See `LeaseStore`."""
        with self._redis.asked() as client, client.pipeline() as pipe:
            for lease in leases:
                pipe.hdel(_port(lease), str(lease.token))
            ended = pipe.execute()
        return tuple(lease for lease, count in zip(leases, ended, strict=True) if count)

    def renew(self, lease: Lease, ttl_seconds: float | None) -> Lease:
        """See `LeaseStore`."""
        entry = Entry(lease, _CLOCK, lease.expires_at)
        rules.prolonged(entry, ttl_seconds, self._here, _moment(0))
        ttl = _milliseconds(ttl_seconds, held=lease.held)
        found = self._run([lease], "renew", str(lease.token), ttl)
        if not found:
            raise rules.lost(lease)
        return self._entries(found)[0].lease

    def leases(self, scope: str | None = None) -> tuple[Lease, ...]:
        """See `LeaseStore`."""
        return rules.sorted_leases(lease for lease, alive in self._judged(scope) if alive)

    def is_empty(self) -> bool:
        """See `LeaseStore`. To ask would cost as much as to list the leases."""
        return False

    def prune(self) -> tuple[Lease, ...]:
        """See `LeaseStore`. What Redis has forgotten by itself is not among them."""
        over = [lease for lease, alive in self._judged(None) if not alive]
        return rules.sorted_leases(self.release(over))

    def remember(self, scope: str, project: str, place: str, ports: Mapping[str, int]) -> None:
        """See `LeaseStore`. Half a year after the last time they are forgotten."""
        key = _key(scope, "last", project, place)
        with self._redis.asked() as client, client.pipeline() as pipe:
            for service, port in ports.items():
                pipe.hset(key, _quoted(service), str(port))
            pipe.expire(key, _REMEMBERED_SECONDS)
            pipe.execute()

    def recall(self, scope: str, project: str, place: str) -> dict[str, int]:
        """See `LeaseStore`."""
        with self._redis.asked() as client:
            found = client.hgetall(_key(scope, "last", project, place))
            return {unquote(name, *_UTF8): int(port) for name, port in found.items()}

    def close(self) -> None:
        """Closes the connection."""
        self._redis.close()

    def _run(self, of: Iterable[Claim | Lease], *arguments: str) -> list[str]:
        keys = [(_port(each), _key(each.scope, "ports"), _key(each.scope, "token")) for each in of]
        with self._redis.asked() as client:
            script = client.register_script(_SCRIPT)
            return list(script(keys=[key for each in keys for key in each], args=arguments))

    def _grant(
        self, claims: Sequence[Claim], now: int, verdicts: Sequence[str]
    ) -> tuple[int, str, list[Entry]]:
        """Redis's clock in microseconds, its answer, and the leases that belong to it."""
        words = [str(now + int(_DEADLINE_SECONDS * 1e6)), str(len(verdicts)), *verdicts]
        for each in claims:
            words += [_milliseconds(each.ttl_seconds, held=each.held), _text(each)]
        clock, answer, *found = self._run(claims, "grant", *words)
        return int(clock), answer, self._entries(found)

    def _judged(self, scope: str | None) -> list[tuple[Lease, bool]]:
        """Every lease that Redis still has, and whether it is alive."""
        now, found = _moment(self._grant((), 0, ())[0]), list[str]()
        with self._redis.asked() as client:
            indexes = [_key(scope, "ports")] if scope else client.scan_iter(f"{_PREFIX}*:ports")
            for index in indexes:
                with client.pipeline() as pipe:
                    for member in client.zrange(index, 0, -1):
                        pipe.hgetall(f"{index.removesuffix('ports')}{member}")
                    for leases in pipe.execute():
                        found += [part for pair in leases.items() for part in pair]
        entries = self._entries(found)
        return [(entry.lease, rules.is_alive(entry, self._here, now)) for entry in entries]

    def _entries(self, flat: Sequence[str]) -> list[Entry]:
        """The leases of tokens and values by turns.

        Raises:
            StoreError: something there is no lease.
        """
        try:
            leases = [_lease(*pair) for pair in zip(flat[::2], flat[1::2], strict=True)]
        except (ValueError, TypeError, KeyError, ValidationError) as error:
            message = f"{self.where}: what Redis keeps as a lease is none: {error!a}"
            raise StoreError(message) from error
        return [Entry(lease, _CLOCK, lease.expires_at) for lease in leases]


def _quoted(text: str) -> str:
    """The text in ASCII that no key gives a meaning to."""
    return quote(text.encode(*_UTF8), safe="")


def _key(scope: str, kind: str, *names: str) -> str:
    """A key of a scope; a cluster keeps on one node what has the same `{…}`."""
    return ":".join((f"{_PREFIX}{{@{_quoted(scope)}}}", kind, *map(_quoted, names)))


def _port(of: Claim | Lease) -> str:
    """The hash of a port's leases."""
    return _key(of.scope, f"{of.transport.value}/{of.port}")


def _milliseconds(ttl_seconds: float | None, *, held: bool) -> str:
    unbounded = LEASE_SECONDS if held else RESERVATION_SECONDS
    return str(max(1, round((unbounded if ttl_seconds is None else ttl_seconds) * 1000)))


def _moment(microseconds: int) -> Moment:
    return Moment(microseconds / 1e6, _CLOCK, microseconds / 1e6)


def _text(claim: Claim) -> str:
    """The claim as JSON, in ASCII: msgspec's has no place for a path that is not UTF-8."""
    fields = asdict(claim) | {"owner": claim.owner and astuple(claim.owner)}
    return json.dumps(fields, separators=(",", ":"))


def _lease(token: str, value: str) -> Lease:
    expires, created, text = value.split(" ", 2)
    raw = json.loads(text)
    owner = raw["owner"] and dict(zip(Owner.__struct_fields__, raw["owner"], strict=True))
    times = {"created_at": int(created) / 1000, "expires_at": int(expires) / 1000}
    return convert(raw | times | {"owner": owner, "token": int(token)}, Lease)
