"""The variables that a checkout's dependents get besides those of its services."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.leases.assigned import with_leases
from resolver.project.checkout import COMPOSE_VARIABLE, checkout_name, is_linked_worktree
from resolver.project.derived import CHECKOUT
from resolver.reservations.export.variables import host, names, variables_of
from resolver.reservations.requests import of_service

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from resolver.model import PortRequest
    from resolver.project.model import Project
    from resolver.reservations.requests import ServiceRequest
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
