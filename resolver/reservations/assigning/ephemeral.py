"""Which ports the kernel gives to outgoing connections: a server is better off elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from resolver.reservations.assigning.search import LAST, Ephemeral

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")  # ip(7); IPv6 uses it too
_RESERVED = Path("/proc/sys/net/ipv4/ip_local_reserved_ports")  # "8080,9148-9150"
_SYSCTLS = ("net.inet.ip.portrange.first", "net.inet.ip.portrange.last")  # macOS, ip(4) of BSD


def ephemeral_range() -> Ephemeral:
    """That of this network namespace; IANA's where the system does not say it."""
    words = _read(_RANGE).split() or (_sysctl() if sys.platform == "darwin" else [])
    try:
        first, last = map(int, words)
    except ValueError:
        return Ephemeral()
    if not 0 <= first <= last <= LAST:
        return Ephemeral()
    return Ephemeral(first, last, parse_reserved(_read(_RESERVED)))


def parse_reserved(text: str) -> frozenset[int]:
    """The ports of a list such as `8080,9148-9150`; what makes no sense is left out."""
    found: set[int] = set()
    for item in text.strip().split(","):
        first, _, last = item.partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            found.update(range(int(first), min(int(last or first), LAST) + 1))
    return frozenset(found)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""


def _sysctl() -> list[str]:
    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-n", *_SYSCTLS],
            capture_output=True,
            text=True,
            timeout=2,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.split()
