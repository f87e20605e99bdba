"""What the allocator of `assign` and `run` does for a report: a free port, a reservation.

Beside each port that stays held a free one is named; nothing is reserved for it, and whoever looked
for a conflict's way out is not to fail for it: where the store of reservations cannot be read, no
port is named. What `resolve --take` has taken is reserved for this checkout.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from msgspec.structs import replace

from resolver import verify
from resolver.cli.store import opened
from resolver.errors import ReservedError, UltraPortsError
from resolver.gather import list_sockets
from resolver.leases import scope
from resolver.leases.store import looked_at
from resolver.model import NearestFree, PortNumber, PortRequest, Verdict, Whose
from resolver.portspec import MAX_PORT, is_name
from resolver.project import names
from resolver.project.file import default_variable
from resolver.reservations.allocate import allocate
from resolver.reservations.candidates import FIRST_UNPRIVILEGED, REFUSED_BY_BROWSERS
from resolver.reservations.requests import ServiceRequest
from resolver.reservations.terms import KeptError, Terms, UnmetError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from resolver.model import PortReport, Report
    from resolver.protocols import LeaseStore
    from resolver.reservations.terms import Assigned


_NEAR = 100  # ports above the one that was wanted, and below it
_CUSTOMARY = 8000  # what people add to a port that takes a privilege
_MOST = 4  # ports of one call that get one: those of a range are better moved together


def with_nearest(
    report: Report, held: Collection[PortRequest], *, use_docker: bool, runs: bool
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
        found = {
            port.request: NearestFree(each.request, service_of(port) if runs else "")
            for port, each in zip(ports, given, strict=True)
        }
        if runs:
            found |= dict(_assigned(ports, asked))
    except UltraPortsError:
        return report
    beside = (replace(port, nearest_free=found.get(port.request)) for port in report.ports)
    return replace(report, ports=tuple(beside))


def _assigned(
    ports: Sequence[PortReport], asked: Collection[int]
) -> Iterator[tuple[PortRequest, NearestFree]]:
    """What the services of the ports were assigned here, and is free: `run` gives them that."""
    project, where = names.current(), scope.current(os.environ)
    mine = (project.name, str(project.root), None)
    with looked_at(os.environ, project.root) as store:
        last = store.recall(where, project.name, str(project.root))
        found = store.leases(where)
    leased = {(e.service, e.request) for e in found if (e.project, e.place, e.owner) == mine}
    for port in ports:
        service = service_of(port)
        its = replace(port.request, port=last.get(service, 0))
        is_new = (service, its) in leased and its.port not in asked
        if is_new and verify.prove(its, list_sockets).free:
            yield port.request, NearestFree(its, service)


def _is_away(port: PortReport, away: Collection[str]) -> bool:
    """Whether it is held on another machine, whose free ports are not known."""
    found = (each.holder.container for each in port.holders)
    return any(each is not None and each.engine in away for each in found)


def service_of(port: PortReport) -> str:
    """What the port is for: as it was asked for, as this project or its holder's lease says."""
    known = (each.name for each in names.current().services if each.request == port.request)
    leased = (each.classification.ownership.leased for each in port.holders)
    kept = filter(is_name, leased)  # whoever keeps the store wrote it
    return next(iter((*port.services, *known, *kept)), "web")


def allocated(
    wanted: Sequence[ServiceRequest], terms: Terms, store: LeaseStore
) -> tuple[Assigned, ...]:
    """As `allocate`; where a strict wish is not met, the message names a free port beside it.

    Raises:
        ReservedError: no port is left, or none that was asked for; nothing was taken.
        UltraPortsError: as `allocate` says.
    """
    try:
        return allocate(wanted, terms, store)
    except UnmetError as error:
        held = [each for each, obstacles in error.unmet if obstacles]
        kept = any(isinstance(each, KeptError) for _, found in error.unmet for each in found)
        if not terms.strict or kept or not 0 < len(held) <= _MOST:
            raise
        asked = {request.port for each in wanted for request in each.options}
        said = str(error)
        try:
            given = _allocated(
                [each.preferred for each in held], asked, use_docker=terms.use_docker
            )
        except UltraPortsError:
            raise error from None
        free = ", ".join(each.request.typed for each in given)
        verb = "are" if len(given) > 1 else "is"
        raise ReservedError(f"{said}; {free} {verb} free", error.hint) from error


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


def taken(report: Report) -> Iterator[str]:
    """Reserves what was freed of another checkout's leases, and says so."""
    for port in report.ports:
        if port.verdict is Verdict.FREED and _was_leased_elsewhere(port):
            try:
                yield _reserved(port)
            except UltraPortsError as error:
                why = f"freed, but not reserved for this checkout: {_reason(error, port)}"
                yield f"{port.request} is {why}"


def _reason(error: UltraPortsError, port: PortReport) -> str:
    """Why it is not; of a service that has another port, what moves it."""
    obstacles = [each for _, found in getattr(error, "unmet", ()) for each in found]
    kept = next((each.kept for each in obstacles if isinstance(each, KeptError)), None)
    if kept is None:
        return str(error)
    service = service_of(port)
    moves = f"ultra-ports assign --strict --reassign {service}:{port.request.typed}"
    return f"{service} already has {kept.typed}; to move it: {moves}"


def _was_leased_elsewhere(port: PortReport) -> bool:
    found = (each.classification.ownership for each in port.holders)
    return any(each.whose is Whose.OTHER and each.leased for each in found)


def _reserved(port: PortReport) -> str:
    service, project = service_of(port), names.current()
    terms = Terms(
        scope=scope.current(os.environ),
        project=project.name,
        place=str(project.root),
        strict=True,
        remembered=False,
    )
    wanted = ServiceRequest(service, default_variable(service), (port.request,))
    with opened(project.root) as store:
        allocate([wanted], terms, store)
    return f"{port.request} is reserved for {service} of this checkout now"
