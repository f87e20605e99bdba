"""A report as JSON: the structs that its envelope is made of. PURE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.json_text import Envelope, entry
from resolver.model import (
    Binding,
    Classification,
    Collateral,
    CollateralKind,
    Command,
    Confidence,
    Container,
    Degree,
    HolderReport,
    Kind,
    Manager,
    Ownership,
    PortReport,
    PortRequest,
    Process,
    Report,
    Respawn,
    Result,
    Scan,
    SocketState,
    Step,
    Successor,
    Verdict,
)
from resolver.model.compose_labels import PROJECT, SERVICE
from resolver.shell import shell_line

if TYPE_CHECKING:
    from collections.abc import Sequence


class EngineEntry(Struct, frozen=True):
    """How one engine answered."""

    endpoint: str
    asked: bool
    error: str | None
    elsewhere: str | None


class ManagerEntry(Struct, frozen=True):
    """What would start a holder again; `stop` and `start` are argument vectors."""

    kind: str
    name: str
    policy: str
    stop: list[tuple[str, ...]]
    start: list[tuple[str, ...]]


class ProcessEntry(Struct, frozen=True):
    """One process; `start_time` as in `model.ProcessIdentity`."""

    pid: int
    start_time: int
    name: str
    command: tuple[str, ...]
    user: str | None
    cwd: str | None
    parent: int | None


class ContainerEntry(Struct, frozen=True):
    """One container."""

    id: str
    name: str
    image: str
    state: str
    restart_policy: str
    compose_project: str | None
    compose_service: str | None


class CollateralEntry(Struct, frozen=True):
    """What else is lost with a holder; `commands` as in `StepEntry`."""

    kind: CollateralKind
    degree: Degree
    text: str
    evidence: str
    commands: list[tuple[str, ...]]
    command_lines: list[str]


class StepEntry(Struct, frozen=True):
    """What was chosen for a holder.

    `commands` and `undo` are argument vectors; the lines are the same for a shell, with the
    directory that a command is to be run in, and a remark.
    """

    kind: str
    why: str
    commands: list[tuple[str, ...]]
    command_lines: list[str]
    undo: list[tuple[str, ...]]
    undo_lines: list[str]


class OutcomeEntry(Struct, frozen=True):
    """How the step ended."""

    result: Result
    reason: str
    actions: tuple[str, ...]


class HolderEntry(Struct, frozen=True):
    """One holder of a port, from gathering to outcome.

    `name` and `pid` are the container's, whoever forwards to it, else the first process's; `pid` is
    null where nobody says it.
    """

    name: str | None
    pid: int | None
    binding: Binding
    state: SocketState
    kind: Kind
    manager: ManagerEntry | None
    respawn: Respawn
    confidence: Confidence
    processes: list[ProcessEntry]
    container: ContainerEntry | None
    ownership: Ownership
    chain: tuple[str, ...]
    evidence: tuple[str, ...]
    collateral: list[CollateralEntry]
    step: StepEntry | None
    outcome: OutcomeEntry | None


class SuccessorEntry(Struct, frozen=True):
    """What came in the place of an ended process; `binding` is null where it serves nothing yet."""

    binding: Binding | None
    process: ProcessEntry
    started_by: ProcessEntry | None
    text: str


class PortEntry(Struct, frozen=True):
    """One requested port; `nearest_free` is a port beside one that stays held, else null."""

    label: str
    port: int
    request: PortRequest
    services: tuple[str, ...]
    verdict: Verdict
    reason: str
    holders: list[HolderEntry]
    retaken_by: list[HolderEntry]
    successors: list[SuccessorEntry]
    nearest_free: int | None
    notes: tuple[str, ...]


class ReportEnvelope(Envelope, frozen=True, kw_only=True, tag="ultra-ports.report/1"):
    """The answer of `who`, `resolve` and `apply`."""

    command: str
    dry_run: bool
    exit_status: int
    scan: Scan
    engines: list[EngineEntry]
    ports: list[PortEntry]
    notes: tuple[str, ...]


def envelope(report: Report) -> ReportEnvelope:
    """The whole report."""
    engines = [entry(EngineEntry, each) for each in report.engines]
    return entry(ReportEnvelope, report, engines=engines, ports=ports(report))


def ports(report: Report) -> list[PortEntry]:
    """The requested ports alone, as a part of other envelopes."""
    return [_port(port) for port in report.ports]


def holder(report: HolderReport) -> HolderEntry:
    """One holder, as a part of other envelopes."""
    found: Classification = report.classification
    name, pid = _who(found)
    return entry(
        HolderEntry,
        found,
        name=name,
        pid=pid,
        binding=found.holder.binding,
        state=found.holder.state,
        manager=_manager(found.manager),
        processes=[_process(process) for process in found.holder.processes],
        container=_container(found.holder.container),
        collateral=[_collateral(lost) for lost in found.collateral],
        step=_step(report.step),
        outcome=report.outcome and entry(OutcomeEntry, report.outcome),
    )


def _who(found: Classification) -> tuple[str | None, int | None]:
    """The name and the PID of the holder itself."""
    container, master = found.holder.container, found.holder.master
    if container and found.kind is not Kind.LOCAL:
        return container.name, container.main_pid or None
    return (master.name, master.pid) if master else (None, None)


def _port(port: PortReport) -> PortEntry:
    return entry(
        PortEntry,
        port,
        label=str(port.request),
        port=port.request.port,
        holders=[holder(each) for each in port.holders],
        retaken_by=[holder(each) for each in port.retaken_by],
        successors=[_successor(each) for each in port.successors],
        nearest_free=port.nearest_free.request.port if port.nearest_free else None,
        notes=(*port.notes, *port.details, *_kept(port)),
    )


def _kept(port: PortReport) -> tuple[str, ...]:
    return (f"to keep it: {shell_line(port.to_keep)}",) if port.to_keep else ()


def _successor(found: Successor) -> SuccessorEntry:
    starter = _process(found.starter) if found.starter else None
    return SuccessorEntry(found.binding, _process(found.process), starter, str(found))


def _manager(manager: Manager | None) -> ManagerEntry | None:
    if manager is None:
        return None
    prefix = manager.account.prefix if manager.account else manager.prefix
    stop, start = ([(*prefix, *argv) for argv in each] for each in (manager.stop, manager.start))
    return entry(ManagerEntry, manager, stop=stop, start=start)


def _process(process: Process) -> ProcessEntry:
    parent = process.parent.pid if process.parent else None
    return entry(ProcessEntry, process, start_time=process.identity.start_time, parent=parent)


def _container(container: Container | None) -> ContainerEntry | None:
    if container is None:
        return None
    project, service = container.label(PROJECT), container.label(SERVICE)
    return entry(ContainerEntry, container, compose_project=project, compose_service=service)


def _collateral(lost: Collateral) -> CollateralEntry:
    argvs, lines = _commands(lost.commands)
    return entry(CollateralEntry, lost, commands=argvs, command_lines=lines)


def _step(step: Step | None) -> StepEntry | None:
    if step is None:
        return None
    return StepEntry(step.kind, step.why, *_commands(step.commands), *_commands(step.undo))


def _commands(commands: Sequence[Command]) -> tuple[list[tuple[str, ...]], list[str]]:
    """The argument vectors, and the lines for a shell."""
    return [each.argv for each in commands], list(map(shell_line, commands))
