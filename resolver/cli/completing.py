"""What a shell offers for arguments: services of the project, held ports, this project's leases.

Numbers and names of services only: zsh evaluates what it is offered, so no text of strangers may
be in it. Nothing is made, no engine is asked, no process is looked at, and errors offer nothing.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from resolver.errors import UltraPortsError
from resolver.gather.sockets import SERVING, list_sockets
from resolver.leases.store import kept
from resolver.model import Transport
from resolver.portspec import is_name
from resolver.project import names

if TYPE_CHECKING:
    from collections.abc import Iterator

Items = list[tuple[str, str]]
"""Each thing that is offered, and what it is."""


def services(incomplete: str) -> Items:
    """The services of the project of the working directory."""
    return _beginning(incomplete, _services())


def ports(incomplete: str) -> Items:
    """The services, and where a digit was typed every port that is held."""
    found = _held() if incomplete[:1].isdigit() else _services()
    return _beginning(incomplete, found)


def leases(incomplete: str) -> Items:
    """What this project has reserved: the services and their ports."""
    return _beginning(incomplete, _leases())


def _beginning(incomplete: str, found: Iterator[tuple[str, str]]) -> Items:
    """Those that begin like what was typed, behind the last comma of a list."""
    before, comma, last = incomplete.rpartition(",")
    offered: dict[str, str] = {}
    with suppress(UltraPortsError, OSError, ValueError):
        offered.update((name, what) for name, what in found if name.startswith(last))
    return [(f"{before}{comma}{name}", what) for name, what in offered.items()]


def _services() -> Iterator[tuple[str, str]]:
    for each in names.current().services:
        yield each.name, f"port {each.request.port}"


def _held() -> Iterator[tuple[str, str]]:
    found = {each.binding for each in list_sockets(None) if each.state in SERVING}
    for port, transport in sorted({(each.port, each.transport) for each in found}):
        yield (f"{port}/udp" if transport is Transport.UDP else f"{port}"), "held"


def _leases() -> Iterator[tuple[str, str]]:
    project = names.current()
    with kept(os.environ, project.root) as store:
        leases = store.leases(None) if store else ()
    for each in (each for each in leases if each.place == str(project.root)):
        if is_name(each.service):
            yield each.service, f"port {each.port}"
        yield each.request.typed, "reserved"
