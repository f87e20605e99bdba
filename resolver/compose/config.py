"""PURE: the JSON of `docker compose config` → the services, and what each would publish.

Compose resolves everything there (variables, `extends`, `include`, overrides, profiles), and checks
almost nothing of a port in the long form: what the engine will refuse is found out here (by
measurement: compose 2.26 and Docker Engine 20.10).
"""

from __future__ import annotations

import ipaddress
import re

from msgspec import Struct

from resolver import json_text
from resolver.compose.model import ComposeService, Published
from resolver.portspec import MAX_PORT

TRANSPORTS = frozenset({"tcp", "udp", "sctp"})
# The engine reads the first two parts of a range, and leading zeros are nothing to it.
_RANGE = re.compile(r"0*([0-9]{1,5})(?:-0*([0-9]{1,5})(?:-.*)?)?", re.ASCII)


class _Port(Struct):
    """Go leaves out every zero: a missing target is the port 0."""

    target: int = 0
    published: str | int = ""
    host_ip: str = ""
    protocol: str = ""


class _Deploy(Struct):
    replicas: int | None = None


class _ConfigService(Struct):
    ports: list[_Port] | None = None
    scale: int | None = None
    deploy: _Deploy | None = None
    network_mode: str | None = None


class _Config(Struct):
    name: str
    services: dict[str, _ConfigService] | None = None


def decode(text: str) -> tuple[str, tuple[ComposeService, ...]]:
    """The project's name, and its services, sorted by name.

    Raises:
        JsonError: it is not what compose answers; the message says where.
    """
    config = json_text.decode(text, _Config)
    services = sorted((config.services or {}).items())
    return config.name, tuple(_service(name, given) for name, given in services)


def _service(name: str, given: _ConfigService) -> ComposeService:
    replicas = given.scale
    if replicas is None and given.deploy:
        replicas = given.deploy.replicas
    return ComposeService(
        name,
        tuple(
            publish(name, port.target, str(port.published), port.host_ip, port.protocol)
            for port in given.ports or ()
        ),
        1 if replicas is None else max(0, replicas),
        given.network_mode or "",
    )


def publish(
    service: str, target: int, host_port: str, host_ip: str, protocol: str = "tcp"
) -> Published:
    """One entry by its parts, each of them empty where it is not there."""
    transport = protocol.lower() or "tcp"
    first, last, error = _host_ports(host_port)
    address, no_address = _address(host_ip)
    if not 1 <= target <= MAX_PORT:
        error = f"{target} is no port of a container"
    elif transport not in TRANSPORTS:
        error = error or f"{transport!a} is neither tcp, udp nor sctp"
    text = _short_form(target, host_port, host_ip, transport)
    return Published(
        service, target, first, last, address, transport, text, error=error or no_address
    )


def _host_ports(text: str) -> tuple[int | None, int | None, str]:
    """The first and the last host port, both None for an automatic one, and what is wrong."""
    if not text:
        return None, None, ""
    match = _RANGE.fullmatch(text)
    first = int(match[1]) if match else -1
    last = int(match[2] or match[1]) if match else -1
    if first == last == 0:
        return None, None, ""
    if 1 <= first <= last <= MAX_PORT:
        return first, last, ""
    return None, None, f"{text[:60]!a} is neither a port from 1 to {MAX_PORT} nor a range of them"


def _address(text: str) -> tuple[str | None, str]:
    """The canonical address, None for every one, and what is wrong.

    An IPv4-mapped IPv6 address is the IPv4 one; a zone means nothing to the engine.
    """
    if not text:
        return None, ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        address = None
    if address is None or "%" in text:
        why = "engines publish it on every address, or refuse it"
        return None, f"{text[:60]!a} is no IP address: {why}"
    return str(getattr(address, "ipv4_mapped", None) or address), ""


def _short_form(target: int, host_port: str, host_ip: str, transport: str) -> str:
    """`127.0.0.1:8080:80/udp`."""
    host = f"[{host_ip}]" if ":" in host_ip else host_ip
    parts = (host, host_port, target) if host else (host_port, target) if host_port else (target,)
    return ":".join(map(str, parts)) + ("" if transport == "tcp" else f"/{transport}")
