"""Other checkouts' ports after `resolve --take`: what was taken is reserved for this checkout."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from resolver.cli.nearest import service_of
from resolver.cli.store import opened
from resolver.errors import UltraPortsError
from resolver.leases import scope
from resolver.model import Verdict, Whose
from resolver.project import names
from resolver.project.file import default_variable
from resolver.reservations.allocate import allocate
from resolver.reservations.bind import label
from resolver.reservations.requests import ServiceRequest
from resolver.reservations.terms import KeptError, Terms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.model import PortReport, Report


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
    moves = f"ultra-ports assign --strict --reassign {service}:{label(port.request)}"
    return f"{service} already has {label(kept)}; to move it: {moves}"


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
