"""PURE: how it stands with a project's ports → a line for each thing that is worth saying."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from resolver.compose import conflicts
from resolver.compose.containers import SERVICE
from resolver.compose.findings import Code, Entry, Finding, Level, Status
from resolver.compose.roles import is_one_off, orphans, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from resolver.compose.model import ComposeService, Published
    from resolver.compose.roles import Stage
    from resolver.model import PortReport, PortRequest

_USABLE = {Status.CLEAR, Status.OWN}
_REMOVE = "docker compose up --remove-orphans"


def entries(stage: Stage) -> tuple[Entry, ...]:
    """How it stands with every entry of every service, in the file's order."""
    return tuple(chain.from_iterable(_of_service(each, stage) for each in stage.project.services))


def _of_service(service: ComposeService, stage: Stage) -> Iterator[Entry]:
    claimed = set(conflicts.fixed(service))
    for published in service.published:
        if published.error:
            yield Entry(published, Status.CONFLICT, published.error)
        elif published not in claimed:
            yield _without_port(published, service)
        else:
            yield _entry(published, service, stage)


def _entry(published: Published, service: ComposeService, stage: Stage) -> Entry:
    wanted = conflicts.requests(published)
    judged = [(each, status_of(each, stage)) for each in wanted]
    usable = [each for each in judged if each[1] in _USABLE]
    if len(usable) >= service.replicas:
        chosen = usable[0]
    else:
        chosen = max(judged, key=lambda each: _GRAVITY.index(each[1]))
    return Entry(published, chosen[1], _reason(*chosen, stage), wanted)


# How much an entry is in trouble: the worst of its ports speaks for it
_GRAVITY = (
    *(Status.CLEAR, Status.OWN, Status.TAKEN, Status.ORPHAN, Status.CONFLICT),
    *(Status.HIDDEN, Status.UNKNOWN),
)


def _without_port(published: Published, service: ComposeService) -> Entry:
    if conflicts.joins(service):
        return Entry(published, Status.CONFLICT, f"network of {service.network_mode}")
    if service.replicas < 1:
        return Entry(published, Status.UNPUBLISHED, "no container")
    if service.network_mode in {conflicts.HOST, conflicts.NONE}:
        return Entry(published, Status.UNPUBLISHED, f"network_mode: {service.network_mode}")
    if published.first is None:
        return Entry(published, Status.AUTOMATIC, "the engine picks a free port")
    return Entry(published, Status.UNCHECKED, f"{published.transport} is not checked")


def _reason(request: PortRequest, status: Status, stage: Stage) -> str:
    report = stage.reports.get(request)
    if status is Status.CONFLICT:
        return f"{request.address} is not an address of this machine"
    if status is Status.CLEAR or report is None:
        return ""
    if status is Status.OWN:
        return f"{', '.join(_names(report))}, of this project"
    return report.reason


def _names(report: PortReport) -> list[str]:
    containers = [each.classification.holder.container for each in report.holders]
    return list(dict.fromkeys(each.name for each in containers if each))


# --- findings -------------------------------------------------------------------------------------


def findings(stage: Stage, judged: Sequence[Entry]) -> tuple[Finding, ...]:
    """What is worth saying of those who hold the project's ports; conflicts first."""
    replicas = {service.name: service.replicas for service in stage.project.services}
    found = [
        finding
        for entry in judged
        for finding in _of_entry(entry, replicas[entry.published.service], stage)
    ]
    return tuple(dict.fromkeys(sorted(found, key=lambda each: each.level is Level.WARNING)))


def taken(stage: Stage, judged: Sequence[Entry]) -> tuple[PortRequest, ...]:
    """The ports that outsiders hold and the project cannot do without, each once."""
    replicas = {service.name: service.replicas for service in stage.project.services}
    needed: dict[PortRequest, None] = {}
    for entry in judged:
        status = {each: status_of(each, stage) for each in entry.requests}
        usable = [each for each in status if status[each] in _USABLE]
        lacking = replicas[entry.published.service] - len(usable)
        held = [each for each in status if status[each] in {Status.TAKEN, Status.HIDDEN}]
        needed |= dict.fromkeys(held[: max(0, lacking)])
    return tuple(needed)


def _of_entry(entry: Entry, replicas: int, stage: Stage) -> Iterator[Finding]:
    status = {each: status_of(each, stage) for each in entry.requests}
    usable = [each for each in status if status[each] in _USABLE]
    if len(usable) >= replicas:
        yield from _beside(entry, status, stage)
        return
    for request, found in status.items():
        if found not in _USABLE:
            yield _in_the_way(entry, request, found, stage)


def _in_the_way(entry: Entry, request: PortRequest, status: Status, stage: Stage) -> Finding:
    service = (entry.published.service,)
    reason = _reason(request, status, stage)
    start = f"{request} for {entry.published.service}"
    match status:
        case Status.ORPHAN:
            return _orphan(start, service, request, stage)
        case Status.CONFLICT:
            line, code = f"{start}: {reason}", Code.NO_SUCH_ADDRESS
            return Finding(Level.CONFLICT, code, line, service, (request,))
        case Status.UNKNOWN:
            line = f"{start} is in use, and it is not known by whom: {stage.silent or reason}"
            return Finding(Level.WARNING, Code.UNKNOWN, line, service, (request,))
        case _:
            line = f"{start} is held: {reason}"
            return Finding(Level.CONFLICT, Code.HELD, line, service, (request,), stage.hint)


def _orphan(start: str, service: tuple[str, ...], request: PortRequest, stage: Stage) -> Finding:
    container = orphans(stage.reports[request], stage)[0]
    its, hint = container.label(SERVICE), f"docker stop {container.handle}"
    if is_one_off(container):
        why = "`docker compose run` started it, and `up` leaves it alone"
    elif stage.disabled is None:
        why = f"its service {its} is not enabled, or no longer in the file"
    elif its in stage.disabled:
        why = f"no profile enables its service {its} now"
    else:
        why, hint = f"its service {its} is no longer in the file", _REMOVE
    line = f"{start} is held by {container.name} of this project: {why}"
    return Finding(Level.CONFLICT, Code.ORPHAN, line, service, (request,), hint)


def _beside(entry: Entry, status: Mapping[PortRequest, Status], stage: Stage) -> Iterator[Finding]:
    """What is no conflict, and still worth a line."""
    name = entry.published.service
    for request, found in status.items():
        if found is Status.OWN and name not in _services(stage.reports[request]):
            line = (
                f"{request} moves from {', '.join(_services(stage.reports[request]))} to {name}: "
                "compose replaces the container that has it before it starts the other"
            )
            yield Finding(Level.WARNING, Code.MOVED, line, (name,), (request,))
        elif found not in _USABLE:
            line = (
                f"{request}, of the range of {name}, is held: "
                f"{_reason(request, found, stage)}; the engine may pick it and fail, as Docker "
                "20.10 does, and picks another one when it is asked again"
            )
            hint = f"ultra-ports resolve {request}"
            yield Finding(Level.WARNING, Code.RANGE_TAKEN, line, (name,), (request,), hint)


def _services(report: PortReport) -> list[str]:
    containers = [each.classification.holder.container for each in report.holders]
    return sorted({each.label(SERVICE) or "?" for each in containers if each})
