"""What a project makes of its ports for those who depend on them; one value of it for a script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.errors import UsageError
from resolver.leases.assigned import with_leases
from resolver.project.checkout import COMPOSE_VARIABLE, checkout_name, is_linked_worktree
from resolver.project.derived import CHECKOUT
from resolver.reservations.export.variables import host, names, variables_of
from resolver.reservations.requests import ServiceRequest, of_name, of_service

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from resolver.model import PortRequest
    from resolver.project.model import Project
    from resolver.reservations.terms import Assigned


def derived(
    project: Project,
    assigned: Collection[Assigned],
    environ: Mapping[str, str],
    *,
    whole: bool = True,
) -> dict[str, str]:
    """What `[export]` of the project file makes of the ports.

    A worktree that git made beside the first one has a COMPOSE_PROJECT_NAME besides, so that its
    containers are not taken for the other's; `[export]` may say another.

    Args:
        project: its name and root tell its leases from others.
        assigned: what has just been assigned; other services have what `leases.assigned` knows.
        environ: the settings.
        whole: else what depends on none of `assigned` is left out.
    """
    if project.exports:
        project = with_leases(project, environ)
    values = {CHECKOUT: checkout_name(project)}
    just = {each.wanted.service: (each.wanted, each.request) for each in assigned}
    for service in project.services:
        wanted = of_service(service)
        values |= _values(*just.get(service.name, (wanted, wanted.preferred)))
    found = {}
    if whole and project.file and is_linked_worktree(project.root):
        found[COMPOSE_VARIABLE] = values[CHECKOUT]
    for each in project.exports:
        if whole or each.services & just.keys():
            found[each.name] = each.filled(values)
    return found


def _values(wanted: ServiceRequest, request: PortRequest) -> dict[str, str]:
    """The fields of one service; its host is as in a URL, an IPv6 address in brackets."""
    where = host(request)
    url = variables_of(wanted, request)[names(wanted.service, wanted.variable).url]
    return {
        f"{wanted.service}.port": str(request.port),
        f"{wanted.service}.host": f"[{where}]" if ":" in where else where,
        f"{wanted.service}.url": url,
    }


def lookup(
    name: str, project: Project, assigned: Mapping[str, PortRequest], exports: Mapping[str, str]
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
    found = {
        each.name: of_service(
            each, each.request if each.by_environment else assigned.get(each.name, each.request)
        )
        for each in project.services
    }
    others = [of_name(name, each) for name, each in assigned.items() if name not in found]
    return [*found.values(), *others]
