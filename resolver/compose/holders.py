"""PURE: what the holders of a project's ports are to the project → how it stands with each entry.

A container of the project whose service is enabled is replaced, or removed, before anything new is
started (measured with compose 2.26, also where services swap their ports): it is in nobody's way.
One whose service is gone from the file, or not enabled, and one that `docker compose run` started,
stay where they are.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.compose.findings import Code, EntryReport, Severity, Status, conflict, warning
from resolver.compose.model import HOST, NONE, ComposeProject, ComposeService, Published
from resolver.model import ANY_IPV6, Kind, Verdict
from resolver.model.compose_labels import ONE_OFF, PROJECT, SERVICE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from resolver.compose.findings import Finding
    from resolver.model import Binding, Container, HolderReport, PortReport, PortRequest

USABLE = frozenset({Status.FREE, Status.RESERVED, Status.YOURS})
# How much an entry is in trouble: the worst of its ports speaks for it
_GRAVITY = (
    *(Status.FREE, Status.RESERVED, Status.YOURS, Status.HELD, Status.ORPHAN, Status.CONFLICT),
    *(Status.HIDDEN, Status.UNKNOWN),
)


class Role(StrEnum):
    """What a holder is to the project."""

    OWN = "own"
    ORPHAN = "orphan"
    OUTSIDER = "outsider"
    AWAY = "away"  # not where the engine publishes: another machine, or the other family
    FORWARDER = "forwarder"  # of a container that no engine told of


class Facts(Struct, frozen=True):
    """What has to be known to holders.

    `engine` is the endpoint that compose talks to. `away` says why its ports are not this
    machine's. `silent` says why it did not tell of its containers. `disabled` are the services of
    the file that no profile enables; None where nobody looked. `removes_orphans` says that `up`
    will be told to. `hint` is the command that frees what outsiders hold.
    """

    project: ComposeProject
    reports: Mapping[PortRequest, PortReport]
    engine: str = ""
    away: str = ""
    silent: str = ""
    disabled: Collection[str] | None = None
    removes_orphans: bool = False
    hint: str = "ultra-ports resolve --compose"


# --- what a holder is -----------------------------------------------------------------------------


def is_other_family(request: PortRequest, binding: Binding) -> bool:
    """Whether it only looks as if a server there were in the engine's way.

    An engine publishes on `::` for IPv6 alone, where most servers would take IPv4 too.
    """
    return request.address == ANY_IPV6 and ":" not in binding.address


def is_replaced(container: Container, project: ComposeProject) -> bool:
    """Whether it is a container of an enabled service, which `up` keeps, replaces or removes."""
    names = {service.name for service in project.services}
    return (
        container.label(PROJECT) == project.name
        and container.label(SERVICE) in names
        and not is_one_off(container)
    )


def is_one_off(container: Container) -> bool:
    """Whether `docker compose run` started it, which `up` leaves alone."""
    return (container.label(ONE_OFF) or "").lower() == "true"


def _role(report: HolderReport, request: PortRequest, facts: Facts) -> Role:
    found = report.classification
    container = found.holder.container
    if is_other_family(request, found.holder.binding):
        return Role.AWAY
    if container is None:
        unnamed = found.kind is Kind.FORWARDER and facts.silent
        return Role.FORWARDER if unnamed else Role.AWAY if facts.away else Role.OUTSIDER
    if container.engine != facts.engine:
        return Role.AWAY if facts.away else Role.OUTSIDER
    if container.label(PROJECT) != facts.project.name:
        return Role.OUTSIDER
    return Role.OWN if is_replaced(container, facts.project) else Role.ORPHAN


def orphans(report: PortReport, facts: Facts) -> list[Container]:
    """The containers of the project that hold the port, and that `up` does not replace."""
    holders = [each for each in report.holders if _role(each, report.request, facts) is Role.ORPHAN]
    return _containers(holders)


def _containers(holders: Sequence[HolderReport]) -> list[Container]:
    found = [each.holder.container for each in holders]
    return [each for each in dict.fromkeys(found) if each is not None]


# --- how it stands with a port --------------------------------------------------------------------


def status_of(request: PortRequest, facts: Facts) -> Status:
    """How it stands with one host port."""
    report = facts.reports.get(request)
    if report is None:  # not looked at: an address that this machine does not have
        return Status.FREE if facts.away else Status.CONFLICT
    roles = {_role(each, request, facts) for each in report.holders}
    elsewhere = bool(facts.away) if not roles else roles == {Role.AWAY}
    if report.verdict.is_free or elsewhere:
        kept = report.verdict is Verdict.RESERVED and not facts.away
        return Status.RESERVED if kept else Status.FREE
    if report.verdict is Verdict.UNDECIDED or Role.FORWARDER in roles:
        return Status.UNKNOWN
    if report.verdict is Verdict.HIDDEN:
        return Status.HIDDEN
    roles.discard(Role.AWAY)
    if Role.ORPHAN in roles:
        return Status.FREE if _are_removed(report, roles, facts) else Status.ORPHAN
    return Status.YOURS if roles == {Role.OWN} else Status.HELD


def _are_removed(report: PortReport, roles: set[Role], facts: Facts) -> bool:
    """Whether `--remove-orphans` ends all that holds the port, before anything is started."""
    return (
        facts.removes_orphans
        and roles <= {Role.OWN, Role.ORPHAN}
        and not any(
            is_one_off(each) or each.label(SERVICE) in (facts.disabled or ())
            for each in orphans(report, facts)
        )
    )


def _reason(request: PortRequest, status: Status, facts: Facts) -> str:
    report = facts.reports.get(request)
    if status is Status.CONFLICT:
        return f"{request.address} is not an address of this machine"
    if status is Status.FREE or report is None:
        return ""
    if status is Status.YOURS:
        names = dict.fromkeys(each.name for each in _containers(report.holders))
        return f"{', '.join(names)}, of this project"
    return report.reason


# --- how it stands with an entry ------------------------------------------------------------------


def entries(facts: Facts) -> tuple[EntryReport, ...]:
    """How it stands with every entry of every service, in the file's order."""
    found = []
    for service in facts.project.services:
        claimed = set(service.fixed)
        for published in service.published:
            fixed = published in claimed
            found.append(
                _entry(published, service, facts) if fixed else _unclaimed(published, service)
            )
    return tuple(found)


def _entry(published: Published, service: ComposeService, facts: Facts) -> EntryReport:
    """One that claims host ports: a range is in trouble where too few of them are usable."""
    ports = {each: status_of(each, facts) for each in published.requests}
    usable = [each for each in ports if ports[each] in USABLE]
    lacking = max(0, service.replicas - len(usable))
    worst = max(ports, key=lambda each: _GRAVITY.index(ports[each]))
    chosen = worst if lacking else usable[0]
    reason = _reason(chosen, ports[chosen], facts)
    return EntryReport(published, ports[chosen], reason, tuple(ports.items()), lacking)


def _unclaimed(published: Published, service: ComposeService) -> EntryReport:
    if published.error:
        return EntryReport(published, Status.CONFLICT, published.error)
    if service.joins:
        return EntryReport(published, Status.CONFLICT, f"network of {service.network_mode}")
    if service.replicas < 1:
        return EntryReport(published, Status.UNPUBLISHED, "no container")
    if service.network_mode in {HOST, NONE}:
        return EntryReport(published, Status.UNPUBLISHED, f"network_mode: {service.network_mode}")
    if published.first is None:
        return EntryReport(published, Status.AUTOMATIC, "the engine picks a free port")
    return EntryReport(published, Status.UNCHECKED, f"{published.transport} is not checked")


def taken(found: Sequence[EntryReport]) -> tuple[PortRequest, ...]:
    """The ports that outsiders hold and the project cannot do without, each once."""
    needed: dict[PortRequest, None] = {}
    for entry in found:
        held = [each for each, status in entry.ports if status in {Status.HELD, Status.HIDDEN}]
        needed |= dict.fromkeys(held[: entry.lacking])
    return tuple(needed)


# --- findings -------------------------------------------------------------------------------------


def findings(facts: Facts, found: Sequence[EntryReport]) -> tuple[Finding, ...]:
    """What is worth saying of those who hold the project's ports; conflicts first."""
    lines = [finding for entry in found for finding in _of_entry(entry, facts)]
    return tuple(dict.fromkeys(sorted(lines, key=lambda each: each.level is Severity.WARNING)))


def _of_entry(entry: EntryReport, facts: Facts) -> Iterator[Finding]:
    name = entry.published.service
    for request, status in entry.ports:
        if status is Status.YOURS and not entry.lacking:
            yield from _moved(request, name, facts)
        elif status not in USABLE:
            finding = _in_the_way if entry.lacking else _in_a_range
            yield finding(request, name, status, facts)


def _moved(request: PortRequest, name: str, facts: Facts) -> Iterator[Finding]:
    """Where the project's own container that has the port is another service's."""
    services = {each.label(SERVICE) or "?" for each in _containers(facts.reports[request].holders)}
    if name not in services:
        line = (
            f"{request} moves from {', '.join(sorted(services))} to {name}: compose replaces the "
            "container that has it before it starts the other"
        )
        yield warning(Code.MOVED, line, (name,), (request,))


def _in_a_range(request: PortRequest, name: str, status: Status, facts: Facts) -> Finding:
    """What somebody holds of a range that has enough other ports: no conflict."""
    line = (
        f"{request}, of the range of {name}, is held: {_reason(request, status, facts)}; the "
        "engine may pick it and fail, as Docker 20.10 does, and picks another one when it is asked "
        "again"
    )
    hint = f"ultra-ports resolve {request}"
    return warning(Code.RANGE_TAKEN, line, (name,), (request,), hint)


def _in_the_way(request: PortRequest, name: str, status: Status, facts: Facts) -> Finding:
    reason = _reason(request, status, facts)
    start, services, requests = f"{request} for {name}", (name,), (request,)
    match status:
        case Status.ORPHAN:
            whose, hint = _orphan(orphans(facts.reports[request], facts)[0], facts)
            line = f"{start} is held by {whose}"
            return conflict(Code.ORPHAN, line, services, requests, hint)
        case Status.CONFLICT:
            return conflict(Code.NO_SUCH_ADDRESS, f"{start}: {reason}", services, requests)
        case Status.UNKNOWN:
            why = facts.silent or reason
            line = f"{start} is in use, and it is not known by whom: {why}"
            return warning(Code.UNKNOWN, line, services, requests)
        case _:
            line = f"{start} is {reason if reason.startswith('held ') else f'held: {reason}'}"
            return conflict(Code.HELD, line, services, requests, facts.hint)


def _orphan(container: Container, facts: Facts) -> tuple[str, str]:
    """Which container it is, and why `up` leaves it there; and the command that ends it."""
    its, hint = container.label(SERVICE), f"docker stop {container.handle}"
    if is_one_off(container):
        why = "`docker compose run` started it, and `up` leaves it alone"
    elif facts.disabled is None:
        why = f"its service {its} is not enabled, or no longer in the file"
    elif its in facts.disabled:
        why = f"no profile enables its service {its} now"
    else:
        why, hint = (
            f"its service {its} is no longer in the file",
            "docker compose up --remove-orphans",
        )
    return f"{container.name} of this project: {why}", hint
