"""One value of a project for a script: the port of a service, or one of its variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.errors import UsageError
from resolver.project.file import default_variable
from resolver.reservations.export.variables import scheme, variables_of
from resolver.reservations.requests import ServiceRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resolver.model import PortRequest
    from resolver.project.model import Project


def lookup(
    name: str,
    project: Project,
    assigned: Mapping[str, PortRequest],
    exports: Mapping[str, str],
) -> str:
    """The port of the service `name`, or the value of the variable of that name.

    Args:
        name: `api`, `API_PORT`, `API_HOST` or `API_URL`.
        project: its services, and their ports where nothing else is known.
        assigned: the endpoints of services that have a lease.
        exports: the variables besides those of the services.

    Raises:
        UsageError: there is no such service or variable; the message names the services.
    """
    found = values(project, assigned, exports)
    if name in found:
        return found[name]
    known = ", ".join(each.service for each in _requests(project, assigned)) or "none"
    raise UsageError(
        f"{name[:60]!a} is neither a service nor a variable of one; services: {known}",
        "a service api has API_PORT, API_HOST and API_URL",
    )


def values(
    project: Project, assigned: Mapping[str, PortRequest], exports: Mapping[str, str]
) -> dict[str, str]:
    """The port of every service by its name, and every variable of the project by its own."""
    requests = _requests(project, assigned)
    found: dict[str, str] = {}
    for wanted in requests:
        found = variables_of(wanted, wanted.preferred) | found
    ports = {wanted.service: str(wanted.preferred.port) for wanted in requests}
    return {**found, **exports, **ports}


def _requests(project: Project, assigned: Mapping[str, PortRequest]) -> list[ServiceRequest]:
    """What the services have: a lease, or what the project says."""
    found = []
    for service in project.services:
        given = service.request if service.by_environment else assigned.get(service.name)
        request = given or service.request
        probe = service.health.kind if service.health else ""
        kind = scheme(service.name, probe, request.transport)
        found.append(ServiceRequest(service.name, service.variable, (request,), kind))
    named = {wanted.service for wanted in found}
    for name, request in assigned.items():
        if name not in named:
            kind = scheme(name, "", request.transport)
            found.append(ServiceRequest(name, default_variable(name), (request,), kind))
    return found
