"""PURE: the words of one published port → a `Published`, or the trouble with it.

Compose checks almost nothing of the long form, and leaves the rest to the engine (by measurement:
plug-in 2.26 and Engine 20.10).
"""

from __future__ import annotations

import ipaddress
import re

from resolver.compose.model import Published
from resolver.interpolation import shown
from resolver.portspec import MAX_PORT

TRANSPORTS = frozenset({"tcp", "udp", "sctp"})
# The engine reads the first two parts of a range, and leading zeros are nothing to it.
_RANGE = re.compile(r"0*([0-9]{1,5})(?:-0*([0-9]{1,5})(?:-.*)?)?", re.ASCII)


def publish(
    service: str, target: int, host_port: str, address: str, transport: str, text: str
) -> Published:
    """One entry by its words, each of them empty where it is not there."""
    transport = transport.lower() or "tcp"
    made = Published(service, target, transport=transport, text=text)
    first, last, trouble = _host_ports(host_port)
    bound, astray = _address(address)
    if not 1 <= target <= MAX_PORT:
        trouble = f"{target} is no port of a container"
    elif transport not in TRANSPORTS:
        trouble = trouble or f"{shown(transport)} is neither tcp, udp nor sctp"
    return Published(
        made.service, target, first, last, bound, transport, text, trouble=trouble or astray
    )


def _host_ports(text: str) -> tuple[int | None, int | None, str]:
    """The first and the last host port, both None for an automatic one, and the trouble."""
    if not text:
        return None, None, ""
    match = _RANGE.fullmatch(text)
    first = int(match[1]) if match else -1
    last = int(match[2] or match[1]) if match else -1
    if first == last == 0:
        return None, None, ""
    if 1 <= first <= last <= MAX_PORT:
        return first, last, ""
    return None, None, f"{shown(text)} is neither a port from 1 to {MAX_PORT} nor a range of them"


def _address(text: str) -> tuple[str | None, str]:
    """The canonical address, None for every one, and the trouble."""
    if not text:
        return None, ""
    address = canonical(text)
    if address is None:
        why = "engines publish it on every address, or refuse it"
        return None, f"{shown(text)} is no IP address: {why}"
    return address, ""


def canonical(text: str) -> str | None:
    """An IP address as others write it; an IPv4-mapped IPv6 address is the IPv4 one. None: none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if "%" in text:  # a zone, which the engine does not know
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)
