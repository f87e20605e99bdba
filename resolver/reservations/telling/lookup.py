"""One value of a project for a script: the port of a service, or one of its variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.errors import UsageError
from resolver.leases.state import state_directory
from resolver.project.file import default_variable
from resolver.reservations.assigning.pool import Wish
from resolver.reservations.telling.formats import scheme, variables_of
from resolver.settings import STORE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resolver.leases.model import Lease
    from resolver.model import PortRequest
    from resolver.project.model import Project


def leased(environ: Mapping[str, str], project: Project, name: str = "") -> dict[str, PortRequest]:
    """The endpoint that each service of the project has a living lease on.

    Where nobody has ever reserved anything, nothing is made for it.

    Args:
        environ: the settings.
        project: whose root tells it apart from its other checkouts.
        name: the project's, in place of its own.

    Raises:
        UsageError: a setting makes no sense.
        StoreError: the store cannot be read.
    """
    shared = environ.get(STORE_VARIABLE, "").strip()
    if not shared and not state_directory(environ, lambda: project.root).ledger.is_file():
        return {}
    from resolver.leases.scope import current  # noqa: PLC0415 - seldom
    from resolver.leases.store import open_store  # noqa: PLC0415

    scope, called = current(environ), name or project.name
    store = open_store(environ, project.root)
    try:
        last = store.recall(scope, called, str(project.root))
        found = [
            lease
            for lease in store.leases(scope)
            if (lease.project, lease.place) == (called, str(project.root))
        ]
    finally:
        store.close()
    return _endpoints(found, last)


def _endpoints(leases: Sequence[Lease], last: Mapping[str, int]) -> dict[str, PortRequest]:
    """Of several leases of one service, that on the port that it got last."""
    found: dict[str, PortRequest] = {}
    for lease in leases:
        if lease.service not in found or lease.port == last.get(lease.service):
            found[lease.service] = lease.request
    return found


def lookup(name: str, project: Project, assigned: Mapping[str, PortRequest]) -> str:
    """The port of the service `name`, or the value of the variable of that name.

    Args:
        name: `api`, `API_PORT`, `API_HOST` or `API_URL`.
        project: its services, and their ports where nothing else is known.
        assigned: the endpoints of services that have a lease.

    Raises:
        UsageError: there is no such service or variable; the message names the services.
    """
    wishes = {wish.service: wish for wish in _wishes(project, assigned)}
    if name in wishes:
        return str(wishes[name].preferred.port)
    for wish in wishes.values():
        found = variables_of(wish, wish.preferred)
        if name in found:
            return found[name]
    known = ", ".join(wishes) or "none"
    raise UsageError(
        f"{name[:60]!a} is neither a service nor a variable of one; services: {known}",
        "a service api has API_PORT, API_HOST and API_URL",
    )


def _wishes(project: Project, assigned: Mapping[str, PortRequest]) -> list[Wish]:
    """What the services have: a lease, or what the project says."""
    found = []
    for service in project.services:
        request = assigned.get(service.name, service.request)
        probe = service.health.kind if service.health else ""
        kind = scheme(service.name, probe, request.transport)
        found.append(Wish(service.name, service.variable, (request,), kind))
    named = {wish.service for wish in found}
    for name, request in assigned.items():
        if name not in named:
            kind = scheme(name, "", request.transport)
            found.append(Wish(name, default_variable(name), (request,), kind))
    return found
