"""PURE: assigned ports → the variables that dependents expect, and the texts that hold them."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import UsageError
from resolver.json_text import Envelope
from resolver.model import ANY_IPV4, ANY_IPV6, PortRequest, Transport

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from resolver.reservations.requests import ServiceRequest
    from resolver.reservations.terms import Assigned

LOOPBACK = "127.0.0.1"  # not "localhost", which is ::1 first to some clients
_PORT_ENDING = "_PORT"
_PLAIN = re.compile(r"[\w@%+=:,./\[\]?*-]*", re.ASCII)  # shells take these as they are, too
_SCHEMES = {"redis": "redis", "postgres": "postgresql"}


class Names(Struct, frozen=True):
    """What a service's variables are called."""

    port: str
    host: str
    url: str


class PortsEntry(Struct, frozen=True):
    """One entry of a compose service's `ports:`; `published` "" lets the engine choose."""

    target: int
    published: str = ""
    address: str | None = None
    transport: str = "tcp"


def names(service: str, variable: str) -> Names:
    """`API_PORT`, `API_HOST` and `API_URL`, for the service `api` or the variable `API_PORT`."""
    stem = variable.removesuffix(_PORT_ENDING)
    if stem in {variable, ""}:
        stem = "".join(each if each.isalnum() else "_" for each in service.upper())
    return Names(variable, f"{stem}_HOST", f"{stem}_URL")


def scheme(service: str, probe: str, transport: Transport) -> str:
    """The scheme of a service's URL, by how the project asks for its health, else by its name."""
    if transport is Transport.UDP:
        return "udp"
    if probe in {"http", "https"}:
        return probe
    return _SCHEMES.get(probe) or _SCHEMES.get(service) or "http"


def host(request: PortRequest) -> str:
    """Where a client of this machine finds it; an address without brackets."""
    if request.address in {None, ANY_IPV4}:
        return LOOPBACK
    return "::1" if request.address == ANY_IPV6 else str(request.address)


def variables_of(wanted: ServiceRequest, request: PortRequest) -> dict[str, str]:
    """The variables of one service that has this endpoint."""
    called, where = names(wanted.service, wanted.variable), host(request)
    shown = f"[{where}]" if ":" in where else where
    return {
        called.port: str(request.port),
        called.host: where,
        called.url: f"{wanted.scheme}://{shown}:{request.port}",
    }


def variables(assigned: Iterable[Assigned]) -> dict[str, str]:
    """The variables of all services, in their order."""
    found: dict[str, str] = {}
    for each in assigned:
        found |= variables_of(each.wanted, each.request)
    return found


def distinct(requests: Sequence[ServiceRequest]) -> None:
    """Makes sure that no two services share a name or a variable.

    Raises:
        UsageError: two do.
    """
    seen: dict[str, str] = {}
    services: set[str] = set()
    for wanted in requests:
        if wanted.service in services:
            raise UsageError(f"{wanted.service} is given twice")
        services.add(wanted.service)
        called = names(wanted.service, wanted.variable)
        for name in (called.port, called.host, called.url):
            if name in seen:
                raise UsageError(f"{seen[name]} and {wanted.service} share the variable {name}")
            seen[name] = wanted.service


def env_value(text: str) -> str:
    """A value for an environment file: as it is, or in the quotes that all who read one know."""
    return text if _PLAIN.fullmatch(text) else f"'{text}'"


def env_text(found: Mapping[str, str]) -> str:
    """Lines for an environment file."""
    return "".join(f"{name}={env_value(text)}\n" for name, text in found.items())


def shell_text(found: Mapping[str, str]) -> str:
    """Lines for `eval` in a shell."""
    return "".join(f"export {name}={shlex.quote(text)}\n" for name, text in found.items())


class AssignedEntry(Struct, frozen=True):
    """The port of one service, and what its variables say."""

    service: str
    label: str
    port: int
    transport: str
    address: str | None
    host: str
    url: str
    variables: dict[str, str]
    preferred: int
    previous: int | None
    source: str
    said: tuple[str, ...]
    expires_at: float | None


class AssignmentEnvelope(Envelope, frozen=True, kw_only=True, tag="ultra-ports.assignment/1"):
    """The answer of `assign`; `exports` are the variables besides those of the services."""

    command: str = "assign"
    dry_run: bool
    exit_status: int = 0
    project: str
    place: str
    scope: str
    services: list[AssignedEntry]
    exports: dict[str, str]
    env_files: list[str]


class RunEnvelope(Envelope, frozen=True, kw_only=True, tag="ultra-ports.run/1"):
    """The answer of `run` where the program was not started: in a dry run, or for the `refusal`.

    `program` is its command line, in a dry run with the ports in it; `variables` are what it would
    be given.
    """

    command: str = "run"
    dry_run: bool
    exit_status: int
    refusal: str = ""
    program: list[str]
    services: list[AssignedEntry]
    variables: dict[str, str]


def service_entry(each: Assigned) -> AssignedEntry:
    """The entry of one service."""
    wanted, request = each.wanted, each.request
    called = names(wanted.service, wanted.variable)
    found = variables_of(wanted, request)
    return AssignedEntry(
        service=wanted.service,
        label=str(request),
        port=request.port,
        transport=request.transport,
        address=request.address,
        host=found[called.host],
        url=found[called.url],
        variables=found,
        preferred=wanted.preferred.port,
        previous=each.previous,
        source=each.source,
        said=each.notes,
        expires_at=each.lease.expires_at if each.lease else None,
    )


def compose_text(services: Mapping[str, Sequence[PortsEntry]]) -> str:
    """An override file: all ports of these services, in place of those that they had.

    `!override` is known to compose since 2.24.4: without it, lists of ports are added up.
    """
    lines = ["services:" if services else "services: {}"]
    for name, entries in services.items():
        lines += [f"  {json.dumps(name)}:", "    ports: !override"]
        for entry in entries:
            lines += _entry(entry)
    return "\n".join(lines) + "\n"


def _entry(entry: PortsEntry) -> Iterable[str]:
    yield f"      - target: {entry.target}"
    if entry.published:
        yield f"        published: {json.dumps(entry.published)}"
    if entry.address is not None:
        yield f"        host_ip: {json.dumps(entry.address)}"
    yield f"        protocol: {entry.transport}"
