"""Other checkouts' ports after `resolve`: one beside what was spared, a lease on what was taken."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from resolver.cli.store import opened
from resolver.errors import UltraPortsError
from resolver.leases import scope
from resolver.model import PortNumber, PortRequest, Verdict, Whose
from resolver.portspec import MAX_PORT
from resolver.project import names
from resolver.project.file import default_variable, is_name
from resolver.reservations.allocate import allocate
from resolver.reservations.requests import ServiceRequest
from resolver.reservations.terms import Terms
from resolver.shell import join

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.model import Ownership, PortReport, Report
    from resolver.reservations.terms import Assigned

INSISTING = {"--take", "--anybody"}
_NEAR = 100  # ports above the one that was wanted


def notes(report: Report, *, take: bool) -> Iterator[str]:
    """What is worth knowing of the ports that were another checkout's.

    With `take`, those that were freed are reserved for this checkout.
    """
    for port in report.ports:
        found = _another(port)
        if found is None:
            continue
        try:
            if port.verdict is Verdict.REFUSED and _is_spared(port):
                yield _proposal(port.request, found)
            elif take and found.leased and port.verdict is Verdict.FREED:
                yield _taken(port.request, found)
        except UltraPortsError as error:
            yield f"{port.request}: {error}"


def _is_spared(port: PortReport) -> bool:
    """Whether a holder was left alone because of whose it is."""
    steps = [each.step for each in port.holders if each.step]
    flags = {word for step in steps for each in step.commands for word in each.argv[2:3]}
    return not flags.isdisjoint(INSISTING)


def _another(port: PortReport) -> Ownership | None:
    """Whose it was, where that is not this checkout."""
    found = (each.classification.ownership for each in port.holders)
    return next((each for each in found if each.whose is Whose.OTHER), None)


def _proposal(request: PortRequest, found: Ownership) -> str:
    last = min(request.port + _NEAR, MAX_PORT)
    near = tuple(
        PortRequest(PortNumber(number), request.transport, request.address)
        for number in range(request.port + 1, last + 1)
    )
    service = _service(request, found)
    free = _allocated(service, near, dry_run=True).request.port
    run = join(("ultra-ports", "run", "--port", f"{service}:{free}", "--", "COMMAND"))
    return f"{free} is free: `{run}`, or `ultra-ports assign`"


def _taken(request: PortRequest, found: Ownership) -> str:
    service = _service(request, found)
    _allocated(service, (request,), dry_run=False)
    return f"{request} is reserved for {service} of this checkout now"


def _service(request: PortRequest, found: Ownership) -> str:
    """What this project calls the port, else what the other one does."""
    services = names.current().services
    leased = found.leased if is_name(found.leased) else "web"  # whoever keeps the store wrote it
    return next((each.name for each in services if each.request == request), leased)


def _allocated(service: str, wanted: tuple[PortRequest, ...], *, dry_run: bool) -> Assigned:
    project = names.current()
    terms = Terms(
        scope=scope.current(os.environ),
        project=project.name,
        place=str(project.root),
        strict=True,
        remembered=False,
        dry_run=dry_run,
    )
    request = ServiceRequest(service, default_variable(service), wanted)
    with opened(project.root) as store:
        (found,) = allocate([request], terms, store)
    return found
