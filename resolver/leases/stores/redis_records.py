"""PURE: leases ↔ what Redis keeps of them: keys, and records of text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from resolver.errors import StoreError
from resolver.leases.model import Claim, Entry, Lease, Owner
from resolver.leases.rules import Moment
from resolver.model import Pid, PortNumber, Transport
from resolver.settings import LEASE_SECONDS, RESERVATION_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_PREFIX = "ultra-ports:1:"  # the format's version: another one would not read these leases
SCOPES = f"{_PREFIX}scopes"
_CLOCK = "redis"  # stands for the boot by whose clock the leases end


def home(scope: str) -> str:
    """The prefix of a scope's keys; a cluster keeps on one node what has the same `{…}`."""
    return f"{_PREFIX}{{@{quoted(scope)}}}:"


def index(scope: str) -> str:
    """The sorted set of a scope's ports that have leases."""
    return f"{home(scope)}ports"


def last(scope: str, project: str, place: str) -> str:
    """The hash of the ports that a project's services got last."""
    return f"{home(scope)}last:{quoted(project)}:{quoted(place)}"


def port_key(of: Claim | Lease) -> str:
    """The hash of a port's leases."""
    return f"{home(of.scope)}{member(of)}"


def member(of: Claim | Lease) -> str:
    """The name of a port in its scope's index, and the end of its key."""
    return f"{of.transport.value}/{of.port}"


def quoted(text: str) -> str:
    """The text in ASCII that no key gives a meaning to."""
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def unquoted(text: str) -> str:
    """What was quoted."""
    return unquote(text, "utf-8", "surrogatepass")


def milliseconds(of: Claim | Lease, ttl_seconds: float | None = None) -> int:
    """The time to live: the given one, else the claim's own, else what every lease here gets."""
    if ttl_seconds is None and isinstance(of, Claim):
        ttl_seconds = of.ttl_seconds
    unbounded = LEASE_SECONDS if of.held else RESERVATION_SECONDS
    return max(1, round((unbounded if ttl_seconds is None else ttl_seconds) * 1000))


def moment(seconds: float) -> Moment:
    """A moment of Redis's clock."""
    return Moment(seconds, _CLOCK, seconds)


def entry(lease: Lease) -> Entry:
    """The lease, which ends by that clock."""
    return Entry(lease, _CLOCK, lease.expires_at)


def text(claim: Claim) -> str:
    """The claim as JSON, in ASCII."""
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


def entries(found: Iterable[str]) -> list[Entry]:
    """What a script answered: keys, tokens and values.

    Raises:
        StoreError: something there is no lease.
    """
    try:
        return [entry(_read(token, value)) for _, token, value in _threes(found)]
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


def granted(claims: Sequence[Claim], found: Iterable[str]) -> tuple[Lease, ...]:
    """The leases of claims that were granted, from their tokens and times."""
    answers = zip(claims, _threes(found), strict=True)
    return tuple(
        _read(token, f"{expires} {created} {text(claim)}")
        for claim, (token, created, expires) in answers
    )
