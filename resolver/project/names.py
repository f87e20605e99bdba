"""Arguments that are names of services, among those that are ports → requests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from resolver import portspec
from resolver.errors import UsageError
from resolver.portspec import is_name
from resolver.project import nearest_file
from resolver.settings import ONLY_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from resolver.model import PortRequest, Report
    from resolver.project.model import Project, Service


class Wanted(Struct, frozen=True):
    """What the arguments ask for: ports, the services that were named for them, and what to say."""

    requests: tuple[PortRequest, ...]
    services: dict[PortRequest, tuple[str, ...]]
    notes: tuple[str, ...]

    def on(self, report: Report) -> Report:
        """The report, with the names of the services and the notes on them."""
        if not self.services:
            return report
        named = (
            replace(port, services=self.services.get(port.request, ())) for port in report.ports
        )
        return replace(report, ports=tuple(named), notes=(*self.notes, *report.notes))


def wanted(arguments: Iterable[str], of: Callable[[], Project], *, to_end: bool = False) -> Wanted:
    """Every requested port in the order given, each once; the project is read for names only.

    Args:
        arguments: ports, and names of services.
        of: gives the project, which has to be the same for every command (`leases.assigned`).
        to_end: what holds the ports may be ended, so no name stands for a port by itself.

    Raises:
        UsageError: an argument is neither a port nor the name of a service.
    """
    found: dict[PortRequest, tuple[str, ...]] = {}
    services_named: dict[Service, None] = {}
    project: Project | None = None
    for argument in arguments:
        items = portspec.items(argument)
        for item in items if any(map(is_name, items)) else [argument]:
            if not is_name(item):
                found |= {each: () for each in portspec.parse([item]) if each not in found}
                continue
            project = project or of()
            service = project.service(item)
            if to_end and service.by_name_alone:
                raise _by_nobody(service)
            services_named[service] = None
            found[service.request] = (*found.get(service.request, ()), item)
    services = {request: tuple(dict.fromkeys(names)) for request, names in found.items() if names}
    notes = (note for service in services_named for note in service.notes)
    left_out = project.notes if project else ()
    return Wanted(tuple(found), services, tuple(dict.fromkeys((*left_out, *notes))))


def _by_nobody(service: Service) -> UsageError:
    port = service.request.typed
    return UsageError(
        f"no project file and no {service.variable} says which port {service.name} has: nothing "
        f"is ended on the mere name; type the port, such as {port}"
    )


def or_standard(arguments: Iterable[str], of: Callable[[], Project]) -> list[str]:
    """The arguments, with the standard port for each name that only that speaks for.

    Raises:
        UsageError: the project makes no sense, or has no such service.
    """
    found = [of().service(each) if is_name(each) else None for each in arguments]
    return [
        str(service.request) if service and service.by_name_alone else each
        for each, service in zip(arguments, found, strict=True)
    ]


def everything() -> tuple[str, ...]:
    """The name of every service of the project file.

    Raises:
        UsageError: there is no project file, or it names no service.
    """
    project = current()
    if project.file is None:
        raise UsageError(
            f"--all needs a project file, and there is none in {project.root} or above",
            "ultra-ports.toml names the services; see docs/port-management.md",
        )
    if not project.services:
        raise UsageError(f"{project.file} names no service")
    return tuple(service.name for service in project.services)


def only_mine() -> bool:
    """Whether `resolve` is to end nothing but what belongs to this checkout, if nobody says so.

    Raises:
        UsageError: the variable makes no sense, or what the project file says of it.
    """
    chosen = os.environ.get(ONLY_VARIABLE, "")
    if chosen not in {"", nearest_file.MINE}:
        raise UsageError(f"{ONLY_VARIABLE}: expected {nearest_file.MINE}, not {chosen[:20]!a}")
    return bool(chosen) or nearest_file.only_mine(working_directory())


def current() -> Project:
    """The project of the working directory.

    Raises:
        UsageError: the working directory is gone, or the project makes no sense.
    """
    from resolver.project.load import load

    return load(working_directory(), os.environ)


def working_directory() -> Path:
    """The working directory, absolute.

    Raises:
        UsageError: it is gone.
    """
    try:
        return Path.cwd()
    except OSError as error:
        raise UsageError(f"the working directory cannot be read: {error.strerror}") from error
