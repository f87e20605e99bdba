"""Adds to a report whose reservation each port is, and whether its holder is that one's.

Where there is no ledger this costs one stat(2). A ledger that cannot be read is a note, and no
more: whoever wants a port freed is not to fail for it.
"""

from __future__ import annotations

from resolver.errors import UltraPortsError
from resolver.leases.state import OUTCOMES, state_directory
from resolver.project.place import root
from resolver.settings import STORE_VARIABLE
from resolver.values import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from resolver.leases.model import Entry, Lease
    from resolver.leases.owner import Here
    from resolver.model import Holder, PortReport, Report


def noted(report: Report, environ: Mapping[str, str]) -> Report:
    """The report with notes of reservations on its ports."""
    if not report.ports:
        return report
    try:
        leases = living(environ, {each.request.port for each in report.ports})
        return _annotated(report, leases, environ) if leases else report
    except UltraPortsError as error:
        said = f"what is reserved cannot be told: {error}"
        return replace(report, notes=(*report.notes, said))


def counted(report: Report, environ: Mapping[str, str]) -> Report:
    """The report, when it has been counted; where nobody asked for that, this is one stat(2)."""
    try:
        place = state_directory(environ, lambda: root(_working_directory()))
    except UltraPortsError:
        return report
    if place.was_used and _exists(place.path / OUTCOMES):
        from resolver.leases.outcomes import count  # noqa: PLC0415 - seldom

        count(report, environ)
    return report


def living(environ: Mapping[str, str], ports: Collection[int] | None = None) -> tuple[Lease, ...]:
    """The living leases of this scope, on the given ports or on all.

    Raises:
        UltraPortsError: they cannot be read.
    """
    if environ.get(STORE_VARIABLE, "").strip():
        return _from_store(environ)
    place = state_directory(environ, lambda: root(_working_directory()))
    path = place.ledger if place.was_used else None
    if path is None or not _exists(path):
        return ()
    from resolver.leases.stores.database import read  # noqa: PLC0415 - seldom

    found = [entry for entry in read(path) if ports is None or entry.lease.port in ports]
    return _alive(found, environ) if found else ()


def _alive(entries: Iterable[Entry], environ: Mapping[str, str]) -> tuple[Lease, ...]:
    """Those of this scope that are alive. Most ports are nobody's: then none of it is loaded."""
    from resolver.leases import rules, scope  # noqa: PLC0415
    from resolver.leases.owner import here  # noqa: PLC0415
    from resolver.leases.stores.memory import present  # noqa: PLC0415

    where, wanted = here(environ), scope.current(environ)
    now = present(where.boot)
    return tuple(
        rules.shown(entry, now)
        for entry in entries
        if entry.lease.scope == wanted and rules.is_alive(entry, where, now)
    )


def _from_store(environ: Mapping[str, str]) -> tuple[Lease, ...]:
    from resolver.leases import scope  # noqa: PLC0415 - seldom
    from resolver.leases.store import open_store  # noqa: PLC0415

    store = open_store(environ, _working_directory())
    try:
        return store.leases(scope.current(environ))
    finally:
        store.close()


def _annotated(report: Report, leases: Iterable[Lease], environ: Mapping[str, str]) -> Report:
    from resolver.leases.model import collide  # noqa: PLC0415 - seldom
    from resolver.leases.owner import here  # noqa: PLC0415

    where = here(environ)
    leases = tuple(leases)
    ports = []
    for port in report.ports:
        notes = [_note(port, each, where) for each in leases if collide(port.request, each.request)]
        ports.append(replace(port, notes=(*port.notes, *notes)) if notes else port)
    return replace(report, ports=tuple(ports))


def _note(port: PortReport, lease: Lease, where: Here) -> str:
    from resolver.leases.belonging import Belonging, belonging  # noqa: PLC0415
    from resolver.report.reservations import whose  # noqa: PLC0415 - seldom

    said = f"reserved for {whose(lease)}"
    found: dict[Belonging, list[str]] = {kind: [] for kind in Belonging}
    for report in (*port.retaken_by, *(() if port.verdict == "freed" else port.holders)):
        holder = report.classification.holder
        found[belonging(holder, lease, where)].append(name(holder))
    if found[Belonging.OTHER]:
        strangers = ", ".join(dict.fromkeys(found[Belonging.OTHER]))
        said += f"; WARNING: {strangers} holds it, and is not who it is reserved for"
    if found[Belonging.UNKNOWN]:
        unknown = ", ".join(dict.fromkeys(found[Belonging.UNKNOWN]))
        said += f"; whether {unknown} is who it is reserved for cannot be told"
    return said


def name(holder: Holder) -> str:
    """A holder in a few words, such as `node 4711`."""
    if holder.container is not None:
        return f"container {holder.container.name}"
    return str(holder.master) if holder.master is not None else "its holder"


def _working_directory() -> Path:
    from pathlib import Path  # noqa: PLC0415 - slow to load, and seldom needed

    try:
        return Path.cwd()
    except OSError:
        return Path("/")


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except OSError:
        return False
    return True
