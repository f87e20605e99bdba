"""Where to look for a port that nobody has asked for, and in which order."""

from __future__ import annotations

import hashlib
import sys
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import CommandFailedError
from resolver.gather.hints import ephemeral_ports
from resolver.host.runner import run_command

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_UNPRIVILEGED = 1024  # ip(7), net.ipv4.ip_unprivileged_port_start
LAST = 65535
ROOMY = 10_000  # below it live most of the ports that somebody knows by heart
# Those from 1024 on that fetch refuses to connect to (Fetch standard, "bad port").
REFUSED_BY_BROWSERS = frozenset(
    {1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566}
    | {*range(6665, 6670), 6679, 6697, 10080}
)
# The defaults of servers that are common where programs are developed: each would be missed there.
WELL_KNOWN = frozenset(
    {1080, 1433, 1521, 1883, 2181, 2375, 2376, 2377, 2379, 2380, 3000, 3306, 3389, 4200, 4222, 4317}
    | {4318, 5000, 5173, 5432, 5601, 5671, 5672, 5900, 5984, 6379, 6443, 7474, 7687, 8000, 8080}
    | {8081, 8085, 8086, 8443, 8500, 8888, 9000, 9042, 9090, 9092, 9200, 9300, 9418, 10000, 10250}
    | {11211, 11434, 12434, 15672, 16379, 16686, 19000, 24224, 25565, 25672, 26257, 26379, 27017}
    | {27018, 27019, 28015}
)
_SYSCTLS = ("net.inet.ip.portrange.first", "net.inet.ip.portrange.last")  # macOS, ip(4) of BSD


class Source(StrEnum):
    """Where a port came from."""

    PREFERRED = "preferred"
    KEPT = "kept"  # another one than preferred, which the service was assigned before
    LAST = "last used"
    POOL = "pool"
    BELOW = "below the ephemeral range"
    ABOVE = "above the ephemeral range"
    INSIDE = "inside the ephemeral range"  # where an outgoing connection may take it


class Ephemeral(Struct, frozen=True):
    """The ports that the kernel gives to outgoing connections, inclusive, but for `reserved`."""

    first: int = 49152  # RFC 6335, section 6: where a system does not say anything else
    last: int = LAST
    reserved: frozenset[int] = frozenset()


def candidates(
    name: str, pool: tuple[tuple[int, int], ...], ephemeral: Ephemeral
) -> Iterator[tuple[Source, int]]:
    """Every port that may be given to somebody who asks for none, the better ones first.

    Args:
        name: of whom it is for; each begins at a place of its own, and always at the same.
        pool: the ranges, first and last, that are tried before all others.
        ephemeral: what the kernel gives away by itself.
    """
    hashed = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    start = int.from_bytes(hashed[:8])
    for source, first, last in _ranges(pool, ephemeral):
        width = last - first + 1
        for step in range(width):
            port = first + (start + step) % width
            suits = source is Source.POOL or not (port in WELL_KNOWN or port in ephemeral.reserved)
            if suits and port not in REFUSED_BY_BROWSERS:
                yield source, port


def _ranges(
    pool: tuple[tuple[int, int], ...], ephemeral: Ephemeral
) -> Iterator[tuple[Source, int, int]]:
    """The ranges to search, first and last, inclusive; some may be empty (last < first)."""
    for first, last in pool:
        yield Source.POOL, first, last
    low, high = ephemeral.first, ephemeral.last
    yield Source.BELOW, min(ROOMY, low), low - 1
    yield Source.BELOW, FIRST_UNPRIVILEGED, min(ROOMY, low) - 1
    yield Source.ABOVE, max(high + 1, FIRST_UNPRIVILEGED), LAST
    yield Source.INSIDE, max(low, FIRST_UNPRIVILEGED), high


def ephemeral_range() -> Ephemeral:
    """That of this network namespace; IANA's where the system does not say it."""
    found, reserved = (_sysctl(), frozenset()) if sys.platform == "darwin" else ephemeral_ports()
    return Ephemeral(found[0], found[-1], reserved) if found else Ephemeral()


def _sysctl() -> range:
    try:
        answer = run_command(("/usr/sbin/sysctl", "-n", *_SYSCTLS), timeout_seconds=2)
        first, last = map(int, answer.stdout.split())
    except (CommandFailedError, ValueError):
        return range(0)
    return range(first, last + 1)
