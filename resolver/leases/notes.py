"""Adds to a report whose reservation each port is, and whether its holder is that one's.

Where there is no ledger this costs one stat(2). A ledger that cannot be read is a note, and no
more: whoever wants a port freed is not to fail for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from resolver.errors import UltraPortsError
from resolver.leases import scope
from resolver.leases.belonging import Belongs, belonging
from resolver.leases.model import collide
from resolver.leases.owner import here
from resolver.leases.store import kept
from resolver.model import Verdict
from resolver.project.location import root, working_directory
from resolver.report.lease import whose

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from resolver.leases.model import Lease
    from resolver.leases.owner import Here
    from resolver.model import Holder, PortReport, Report


def with_reservations(report: Report, environ: Mapping[str, str]) -> Report:
    """The report with notes of reservations on its ports."""
    if not report.ports:
        return report
    try:
        leases = living(environ, {each.request.port for each in report.ports})
        return _annotated(report, leases, environ) if leases else report
    except UltraPortsError as error:
        note = f"what is reserved cannot be told: {error}"
        return replace(report, notes=(*report.notes, note))


def living(environ: Mapping[str, str], ports: Collection[int] | None = None) -> tuple[Lease, ...]:
    """The living leases of this scope, on the given ports or on all.

    Raises:
        UltraPortsError: they cannot be read.
    """
    with kept(environ, root(Path(working_directory() or "/"))) as store:
        if store is None:
            return ()
        leases = store.leases(scope.current(environ))
    return tuple(each for each in leases if ports is None or each.port in ports)


def _annotated(report: Report, leases: Iterable[Lease], environ: Mapping[str, str]) -> Report:
    where = here(environ)
    leases = tuple(leases)
    ports = []
    for port in report.ports:
        notes = [_note(port, each, where) for each in leases if collide(port.request, each.request)]
        if notes and report.command == "who" and port.verdict is Verdict.FREE:
            said = "; ".join(note.removeprefix("reserved ") for note in notes)
            ports.append(replace(port, verdict=Verdict.RESERVED, reason=said))
        else:
            ports.append(replace(port, notes=(*port.notes, *notes)))
    return replace(report, ports=tuple(ports))


def _note(port: PortReport, lease: Lease, where: Here) -> str:
    note = f"reserved for {whose(lease)}"
    found: dict[Belongs, list[str]] = {kind: [] for kind in Belongs}
    for report in (*port.retaken_by, *(() if port.verdict == "freed" else port.holders)):
        holder = report.holder
        found[belonging(holder, lease, where)].append(name(holder))
    if found[Belongs.STRANGER]:
        strangers = ", ".join(dict.fromkeys(found[Belongs.STRANGER]))
        note += f"; WARNING: {strangers} holds it, and is not who it is reserved for"
    if found[Belongs.UNKNOWN]:
        unknown = ", ".join(dict.fromkeys(found[Belongs.UNKNOWN]))
        note += f"; whether {unknown} is who it is reserved for cannot be told"
    return note


def name(holder: Holder) -> str:
    """A holder in a few words, such as `node 4711`."""
    if holder.container is not None:
        return f"container {holder.container.name}"
    return str(holder.master) if holder.master is not None else "its holder"
