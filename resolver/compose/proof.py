"""The proof: each published port answers from the project's own container. Read-only."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from resolver import api
from resolver.compose.holders import is_one_off, is_other_family, is_replaced
from resolver.compose.model import HOST, NONE, ComposeService, Published, same_address
from resolver.compose.probe import PortAnswer, probe
from resolver.gather.containers import project_containers
from resolver.model import Binding, Container, ExitStatus, PortReport, PortRequest, Report, Verdict
from resolver.model.compose_labels import SERVICE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from resolver.compose.findings import Preflight

_ASK_SECONDS = 10.0
_POLL_SECONDS = 0.2


class PortProof(Struct, frozen=True):
    """One published port of one container, or an entry that no container publishes.

    `outer` is None where nothing is published, and `container` empty where there is none.
    """

    service: str
    target: int
    container: str
    outer: Binding | None
    answer: PortAnswer
    automatic: bool = False


def check(
    found: Preflight,
    wait_seconds: float,
    waiting: Callable[[str, float], None],
    **options: Any,  # noqa: ANN401
) -> tuple[PortProof, ...]:
    """Whether each published port answers from the project's own container, in good time.

    Args:
        found: the project, as it was started.
        wait_seconds: how long a server may take until it answers.
        waiting: is told for what, and how long at most.
        options: fields of `Policy`, as for `api.who`.

    Raises:
        EngineError: the engine does not say what runs.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        checked = tuple(_look(found, options))
        open_ones = [each for each in checked if each.answer.good is False]
        left = deadline - time.monotonic()
        if not open_ones or left <= 0:
            break
        waiting(f"{open_ones[0].service} {open_ones[0].outer or open_ones[0].target}", left)
        time.sleep(min(_POLL_SECONDS, left))
    return tuple(_held_by_us(checked, found, options))


def exit_status(checked: Sequence[PortProof]) -> ExitStatus:
    """0 only where every port is known to answer."""
    answers = {each.answer.good for each in checked}
    if False in answers:
        return ExitStatus.HELD
    return ExitStatus.UNDECIDED if None in answers else ExitStatus.FREE


def _look(found: Preflight, options: dict[str, Any]) -> Iterator[PortProof]:
    """One look at every container of every service that publishes ports."""
    limit = max(_ASK_SECONDS, float(options.get("docker_timeout_seconds", 0)))
    project = found.project
    ours = project_containers(project.name, found.engine, limit)
    host = urlsplit(found.engine.endpoint).hostname or "" if found.away else None
    for service in project.services:
        own = [
            each for each in ours if each.label(SERVICE) == service.name and not is_one_off(each)
        ]
        for entry in _published(service):
            yield from _of_entry(entry, service, own, host)


def _published(service: ComposeService) -> list[Published]:
    """The entries that the engine publishes: fixed ones, and automatic ones."""
    if service.replicas < 1 or service.network_mode in {HOST, NONE}:
        return []
    automatic = [each for each in service.published if each.first is None]
    return [*service.fixed, *(each for each in automatic if not each.error)]


def _of_entry(
    entry: Published, service: ComposeService, own: list[Container], host: str | None
) -> Iterator[PortProof]:
    """`host` None: the engine's ports are this machine's; empty: nobody knows where they are."""
    running = [each for each in own if each.state == "running"]
    for member in running:
        yield _of_member(entry, service, member, host)
    if len(running) < service.replicas:
        answer = PortAnswer(good=False, reason=_why_missing(own))
        yield PortProof(service.name, entry.target, "", None, answer)


def _why_missing(own: list[Container]) -> str:
    """Why there is no container, or too few."""
    for each in own:
        if each.state != "running":
            ended = each.state in {"exited", "restarting"}
            status = f" with status {each.exit_code}" if ended else ""
            return f"container {each.name} is {each.state}{status}: docker logs {each.name}"
    return "it has fewer containers than it should"


def _of_member(
    entry: Published, service: ComposeService, member: Container, host: str | None
) -> PortProof:
    """The binding that counts is the one that was asked for; of two families, IPv4's."""
    others = service.fixed if entry.first is None else ()
    found = [
        outer
        for outer, target in member.mappings
        if _fits(outer, target, entry) and not any(_fits(outer, target, other) for other in others)
    ]
    outer = min(found, key=lambda each: ":" in each.address, default=None)
    if outer is None:
        why = f"the engine publishes no port for it on {member.name}"
        answer = PortAnswer(good=False, reason=why)
    elif host == "":
        why = "the engine's host cannot be reached by name from here"
        answer = PortAnswer(good=None, reason=why)
    else:
        answer = probe(outer, entry.target, member, host or "")
    automatic = outer is not None and not entry.is_single
    return PortProof(entry.service, entry.target, member.name, outer, answer, automatic)


def _fits(outer: Binding, target: int, entry: Published) -> bool:
    """Whether it is what became of the entry."""
    return (
        (target, outer.transport) == (entry.target, entry.transport)
        and (entry.first is None or outer.port in entry.ports)
        and same_address(entry.address, outer.address)
    )


def _held_by_us(
    checked: Sequence[PortProof], found: Preflight, options: dict[str, Any]
) -> Iterator[PortProof]:
    """The same, but nothing answers for us from a port that somebody else holds."""
    bindings = [each.outer for each in checked if each.outer]
    reports = {} if found.away else _reports(bindings, options)
    for each in checked:
        report = reports.get(each.outer) if each.outer else None
        if report is None or each.answer.good is False:
            yield each
            continue
        yield replace(each, answer=_not_ours(report, each, found) or each.answer)


def _reports(bindings: list[Binding], options: dict[str, Any]) -> dict[Binding, PortReport]:
    if not bindings:
        return {}
    report = api.who(*dict.fromkeys(map(str, bindings)), **options)
    found = {str(port.request): port for port in report.ports}
    return {each: found[str(each)] for each in bindings if str(each) in found}


def _not_ours(report: PortReport, each: PortProof, found: Preflight) -> PortAnswer | None:
    """What is wrong with who holds the port; None where it is the container that we think of."""
    names = {one.name for one in _containers(report) if one}
    if _all_ours(report, found) and each.container in names:
        return None
    if report.verdict in {Verdict.UNDECIDED, Verdict.HIDDEN}:
        return PortAnswer(good=None, reason=f"it is not known who holds it: {report.reason}")
    why = f"it is not {each.container} that holds it: {report.reason}"
    return PortAnswer(good=False, reason=why)


def takers(found: Preflight, **options: Any) -> Report | None:  # noqa: ANN401 - as for `api.who`
    """Who holds the project's ports that were clear or freed before; None where nobody does."""
    wanted: list[PortRequest] = [each for entry in found.entries for each in entry.requests]
    if not wanted or found.away:
        return None
    report = api.who(*map(str, dict.fromkeys(wanted)), **options)
    strange = [port for port in report.ports if _is_strange(port, found)]
    return replace(report, ports=tuple(strange)) if strange else None


def _is_strange(port: PortReport, found: Preflight) -> bool:
    in_the_way = bool(_containers(port)) or not port.holders
    return not port.verdict.is_free and in_the_way and not _all_ours(port, found)


def _all_ours(port: PortReport, found: Preflight) -> bool:
    containers = _containers(port)
    return bool(containers) and all(one and is_replaced(one, found.project) for one in containers)


def _containers(port: PortReport) -> list[Container | None]:
    """Of each holder that counts: None for one that is no container."""
    held = [each.holder for each in port.holders]
    return [each.container for each in held if not is_other_family(port.request, each.binding)]
