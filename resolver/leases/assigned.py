"""The project as its leases have it: a service is where it was assigned, until that ends.

The environment decides first, then a living lease of this project in this directory, then `.env`
and the project file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from msgspec.structs import replace

from resolver.errors import StoreError
from resolver.leases.scope import current as current_scope
from resolver.leases.store import kept
from resolver.project import names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resolver.leases.model import Lease
    from resolver.model import PortRequest
    from resolver.project.model import Project

ORIGIN = "a lease of this project"


def current() -> Project:
    """The project of the working directory, as its leases have it.

    Where the leases cannot be read, a note says so.

    Raises:
        UsageError: the working directory is gone, or the project makes no sense.
    """
    return with_leases(names.current(), os.environ)


def with_leases(project: Project, environ: Mapping[str, str]) -> Project:
    """The project, with the leased ports of those services that the environment does not decide."""
    try:
        found = leased(environ, project)
    except StoreError as error:
        note = f"what was assigned to this project is not known: {error}"
        return replace(project, notes=(*project.notes, note))
    services = (
        each
        if each.by_environment or each.name not in found
        else replace(each, request=found[each.name], origin=ORIGIN)
        for each in project.services
    )
    return replace(project, services=tuple(services))


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
    called = name or project.name
    with kept(environ, project.root) as store:
        if store is None:
            return {}
        scope = current_scope(environ)
        last = store.recall(scope, called, str(project.root))
        leases = store.leases(scope)
    found = [each for each in leases if (each.project, each.place) == (called, str(project.root))]
    return _endpoints(found, last)


def _endpoints(leases: Sequence[Lease], last: Mapping[str, int]) -> dict[str, PortRequest]:
    """Of several leases of one service, that on the port that it got last."""
    found: dict[str, PortRequest] = {}
    for lease in leases:
        if lease.service not in found or lease.port == last.get(lease.service):
            found[lease.service] = lease.request
    return found
