"""Before `docker compose up`: what the project would publish, and what would be in its way.

Read-only. The judgement is in `conflicts.py` and `holders.py`, which are pure.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from resolver import api, verify
from resolver.compose import conflicts, holders
from resolver.compose.findings import Code, HostLimits, Preflight, Severity, Status, warning
from resolver.compose.holders import Facts, orphans
from resolver.compose.up_arguments import EVERYTHING, UpArguments
from resolver.errors import EngineError, UsageError
from resolver.gather import list_sockets
from resolver.gather.containers import project_containers
from resolver.gather.hints import ephemeral_ports
from resolver.gather.namespaces import elsewhere
from resolver.host.engine_client import socket_path
from resolver.host.files import text_of
from resolver.host.peer import listener
from resolver.model import Container, EngineState, ExitStatus, Policy, PortRequest, Report
from resolver.model.compose_labels import WORKING_DIR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.compose.command import ComposeCommand
    from resolver.compose.findings import EntryReport, Finding
    from resolver.compose.model import ComposeProject

_FIRST_UNPRIVILEGED = "/proc/sys/net/ipv4/ip_unprivileged_port_start"  # ip(7)
_CONNECT_SECONDS = 0.5


def preflight(
    compose: ComposeCommand,
    up: UpArguments = EVERYTHING,
    hint: str = "ultra-ports resolve --compose",
    **options: Any,  # noqa: ANN401 - as for `api.who`
) -> Preflight:
    """Looks at the project and at who holds its ports; changes nothing.

    Args:
        compose: is asked what the project publishes.
        up: what would be started of it.
        hint: the command that frees what outsiders hold.
        options: fields of `Policy`.

    Raises:
        UsageError: there is no compose command or no compose file, or the file makes no sense.
    """
    policy = api.policy(options)
    project = compose.selected(up)
    reachable = _reachable(project)
    report = api.who(*map(str, reachable), **options) if reachable else Report("who")
    engine = _asked(compose.engine, report)
    facts = Facts(
        project=project,
        reports={each.request: each for each in report.ports},
        engine=engine.endpoint,
        away=(engine.elsewhere or "") if policy.use_docker else "",
        silent=(engine.error or "") if policy.use_docker else "no engine was asked",
        removes_orphans=up.removes_orphans,
        hint=hint,
    )
    facts = replace(facts, disabled=_disabled(facts, compose))
    quoted = [warning(Code.COMPOSE, each) for each in project.warnings]
    names, notes = _namesakes(project, engine, policy)
    found = (*quoted, *conflicts.find(project, host_limits(engine.endpoint)), *names)
    return _judged(facts, found, report, engine, notes)


def _asked(engine: EngineState, report: Report) -> EngineState:
    """The engine as the report has it, else what is known of it without being asked."""
    for each in report.engines:
        if each.endpoint == engine.endpoint:
            return each
    away = elsewhere(engine.endpoint, (), (), ())
    return replace(engine, elsewhere=away)


def _judged(
    facts: Facts,
    found: Sequence[Finding],
    report: Report,
    engine: EngineState,
    notes: tuple[str, ...],
) -> Preflight:
    entries = holders.entries(facts)
    everything = (*found, *holders.findings(facts, entries))
    blocking = [each for each in everything if each.level is Severity.CONFLICT]
    statuses = {each.status for each in entries}
    return Preflight(
        project=facts.project,
        entries=tuple(_marked(each, blocking) for each in entries),
        findings=(*blocking, *(each for each in everything if each.level is Severity.WARNING)),
        report=report,
        engine=engine,
        taken=holders.taken(entries),
        away=facts.away,
        notes=(*facts.project.notes, *report.notes, *notes, *_about_away(facts)),
        exit_status=_exit_status(statuses, blocking),
    )


def _exit_status(statuses: set[Status], blocking: Sequence[Finding]) -> ExitStatus:
    if Status.UNKNOWN in statuses:
        return ExitStatus.UNDECIDED
    if Status.HIDDEN in statuses:
        return ExitStatus.HIDDEN
    return ExitStatus.ADVISED if blocking else ExitStatus.FREE


def _marked(entry: EntryReport, blocking: Sequence[Finding]) -> EntryReport:
    """An entry that is at odds with another one of the file says so, whoever holds its port."""
    for each in blocking:
        inside = each.code not in {Code.HELD, Code.ORPHAN}
        if (
            inside
            and entry.published.service in each.services
            and (set(entry.requests) & set(each.requests))
        ):
            return replace(entry, status=Status.CONFLICT, reason=each.message)
    return entry


def _about_away(facts: Facts) -> tuple[str, ...]:
    if not facts.away:
        return ()
    where = f"{facts.engine} publishes elsewhere ({facts.away})"
    return (f"{where}: its containers are seen, and no other process there",)


# --- the project ----------------------------------------------------------------------------------


def _reachable(project: ComposeProject) -> list[PortRequest]:
    """The host ports that the project claims, but for those on addresses of other machines."""
    wanted = dict.fromkeys(
        request
        for service in project.services
        for entry in service.fixed
        for request in entry.requests
    )
    first = {each.address: each for each in wanted if each.address is not None}
    foreign = {address for address, each in first.items() if not _has(each)}
    return [each for each in wanted if each.address not in foreign]


def _has(request: PortRequest) -> bool:
    try:
        verify.prove(request, list_sockets)
    except UsageError:
        return False
    return True


def _disabled(facts: Facts, compose: ComposeCommand) -> frozenset[str] | None:
    """The services that no profile enables; only asked for where a container may be one's."""
    if not any(orphans(report, facts) for report in facts.reports.values()):
        return None
    with suppress(UsageError):
        return compose.all_services()
    return None


def _namesakes(
    project: ComposeProject, engine: EngineState, policy: Policy
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Another directory's containers under the same project name, and why that is not known."""
    if not policy.use_docker:
        return (), ()
    try:
        found = project_containers(project.name, engine, policy.docker_timeout_seconds)
    except EngineError as error:
        return (), (f"not known whether another directory uses this project's name: {error}",)
    here = os.path.realpath(project.working_dir)
    folders: dict[str, list[Container]] = {}
    for each in found:
        where = each.label(WORKING_DIR)
        if where and os.path.realpath(where) != here:
            folders.setdefault(where, []).append(each)
    return tuple(_namesake(project, *each) for each in folders.items()), ()


def _namesake(project: ComposeProject, where: str, containers: list[Container]) -> Finding:
    names = ", ".join(each.name for each in containers)
    if not Path(where).is_dir():  # most likely this one, before it was moved
        line = f"`up` would replace {names}, which {where} started: it is no longer there"
        return warning(Code.PROJECT_MOVED, line)
    stopped = "" if any(each.state == "running" for each in containers) else "stopped "
    return warning(
        Code.PROJECT_NAME,
        f"{where} uses the project name {project.name} too: `up` would replace its {stopped}"
        f"containers ({names})",
        hint="--project NAME tells them apart",
    )


# --- the machine ----------------------------------------------------------------------------------


def host_limits(endpoint: str) -> HostLimits:
    """What makes a port a risk on this machine, for the engine at the endpoint."""
    ephemeral, reserved = ephemeral_ports()
    uid = None
    if path := socket_path(endpoint):
        uid = listener(path, _CONNECT_SECONDS).uid
    # not on Linux: what an engine may do there is the business of its virtual machine
    first_unprivileged = int(text_of(_FIRST_UNPRIVILEGED) or 0)
    return HostLimits(ephemeral, reserved, first_unprivileged, uid)
