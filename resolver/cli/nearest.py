"""A free port beside each one that stays held, found by the allocator of `assign` and `run`.

Nothing is reserved for it. Whoever looked for a conflict's way out is not to fail for it: where the
store of reservations cannot be read, no port is named.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from msgspec.structs import replace

from resolver.errors import UltraPortsError
from resolver.leases import scope
from resolver.leases.store import looked_at
from resolver.model import NearestFree, PortNumber, PortRequest
from resolver.portspec import MAX_PORT
from resolver.project import names
from resolver.project.file import is_name
from resolver.reservations.allocate import allocate
from resolver.reservations.candidates import FIRST_UNPRIVILEGED, REFUSED_BY_BROWSERS
from resolver.reservations.requests import ServiceRequest
from resolver.reservations.terms import Terms

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from resolver.model import PortReport, Report
    from resolver.reservations.terms import Assigned

_NEAR = 100  # ports above the one that was wanted, and below it
_CUSTOMARY = 8000  # what people add to a port that takes a privilege
_MOST = 4  # ports of one call that get one: those of a range are better moved together


def with_nearest(
    report: Report, held: Collection[PortRequest], *, use_docker: bool, runs: bool = True
) -> Report:
    """The report, with a free port beside each of those that stay held, where they are few.

    It is nobody's: not reserved, not a service's of this project, not one of the report's own.

    Args:
        report: of which the ports are.
        held: the ports that stay held.
        use_docker: whether an engine may be asked.
        runs: what is to serve the port is a program, which `ultra-ports run` may start.
    """
    away = {engine.endpoint for engine in report.engines if engine.elsewhere}
    ports = [port for port in report.ports if port.request in held and not _is_away(port, away)]
    if not 0 < len(ports) <= _MOST:
        return report
    asked = {port.request.port for port in report.ports}
    try:
        given = _allocated([port.request for port in ports], asked, use_docker=use_docker)
    except UltraPortsError:
        return report
    found = {
        port.request: NearestFree(each.request, service_of(port) if runs else "")
        for port, each in zip(ports, given, strict=True)
    }
    beside = (replace(port, nearest_free=found.get(port.request)) for port in report.ports)
    return replace(report, ports=tuple(beside))


def _is_away(port: PortReport, away: Collection[str]) -> bool:
    """Whether it is held on another machine, whose free ports are not known."""
    found = (each.classification.holder.container for each in port.holders)
    return any(each is not None and each.engine in away for each in found)


def service_of(port: PortReport) -> str:
    """What the port is for: as it was asked for, as this project or its holder's lease says."""
    known = (each.name for each in names.current().services if each.request == port.request)
    leased = (each.classification.ownership.leased for each in port.holders)
    kept = filter(is_name, leased)  # whoever keeps the store wrote it
    return next(iter((*port.services, *known, *kept)), "web")


def _allocated(
    requests: Sequence[PortRequest], asked: Collection[int], *, use_docker: bool
) -> tuple[Assigned, ...]:
    project = names.current()
    avoided = {*asked, *(each.request.port for each in project.services)}
    wanted = [  # a number is the name of no service: what this project has of its own is not free
        ServiceRequest(str(number), "", _near(request, avoided))
        for number, request in enumerate(requests)
    ]
    terms = Terms(
        scope=scope.current(os.environ),
        project=project.name,
        place=str(project.root),
        pool=project.pool,
        spoken_for=avoided,
        dry_run=True,
        use_docker=use_docker,
    )
    with looked_at(os.environ, project.root) as store:
        return allocate(wanted, terms, store)


def _near(request: PortRequest, avoided: Collection[int]) -> tuple[PortRequest, ...]:
    """The ports beside it, those above first; what nobody can open in a browser is left out.

    A privileged one has those that are customary in its place: 8080 for 80.
    """
    port = request.port if request.port >= FIRST_UNPRIVILEGED else request.port + _CUSTOMARY - 1
    above = range(port + 1, min(port + _NEAR, MAX_PORT) + 1)
    below = range(port - 1, max(port - _NEAR, FIRST_UNPRIVILEGED) - 1, -1)
    return tuple(
        PortRequest(PortNumber(number), request.transport, request.address)
        for number in (*above, *below)
        if number not in avoided and number not in REFUSED_BY_BROWSERS
    )
