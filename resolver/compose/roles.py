"""PURE: what the holders of a project's port are to the project, and how it stands with the port.

A container of the project whose service is enabled is replaced, or removed, before anything new is
started (measured with compose 2.26, also where services swap their ports): it is in nobody's way.
One whose service is gone from the file, or not enabled, and one that `docker compose run` started,
stay where they are.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.compose.containers import ONE_OFF, PROJECT, SERVICE
from resolver.compose.findings import Status
from resolver.model import ANY_IPV6, Kind, PortReport, Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from resolver.compose.model import ComposeProject
    from resolver.model import Binding, Container, HolderReport, PortRequest


class Role(StrEnum):
    """What a holder is to the project."""

    OWN = "own"
    ORPHAN = "orphan"
    OUTSIDER = "outsider"
    AWAY = "away"  # not where the engine publishes: another machine, or the other family
    FORWARDER = "forwarder"  # of a container that no engine told of


class Stage(Struct, frozen=True):
    """What has to be known to judge.

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


def status_of(request: PortRequest, stage: Stage) -> Status:
    """How it stands with one host port."""
    report = stage.reports.get(request)
    if report is None:  # not looked at: an address that this machine does not have
        return Status.CLEAR if stage.away else Status.CONFLICT
    roles = {_role(each, request, stage) for each in report.holders}
    elsewhere = bool(stage.away) if not roles else roles == {Role.AWAY}
    if report.verdict is Verdict.FREE or elsewhere:
        return Status.CLEAR
    if report.verdict is Verdict.UNDECIDED or Role.FORWARDER in roles:
        return Status.UNKNOWN
    if report.verdict is Verdict.HIDDEN:
        return Status.HIDDEN
    return _held(report, roles - {Role.AWAY}, stage)


def _held(report: PortReport, roles: set[Role], stage: Stage) -> Status:
    if Role.ORPHAN in roles:
        return Status.CLEAR if _removed(report, roles, stage) else Status.ORPHAN
    return Status.OWN if roles == {Role.OWN} else Status.TAKEN


def _removed(report: PortReport, roles: set[Role], stage: Stage) -> bool:
    """Whether `--remove-orphans` ends all that holds the port, before anything is started."""
    return roles <= {Role.OWN, Role.ORPHAN} and all(
        _removable(each, stage) for each in orphans(report, stage)
    )


def _removable(container: Container, stage: Stage) -> bool:
    gone = container.label(SERVICE) not in (stage.disabled or ())
    return stage.removes_orphans and gone and not is_one_off(container)


def beside(request: PortRequest, binding: Binding) -> bool:
    """Whether it only looks as if a server there were in the engine's way.

    An engine publishes on `::` for IPv6 alone, where most servers would take IPv4 too.
    """
    return request.address == ANY_IPV6 and ":" not in binding.address


def _role(report: HolderReport, request: PortRequest, stage: Stage) -> Role:
    found = report.classification
    container = found.holder.container
    if beside(request, found.holder.binding):
        return Role.AWAY
    if container is None:
        unnamed = found.kind is Kind.FORWARDER and stage.silent
        return Role.FORWARDER if unnamed else Role.AWAY if stage.away else Role.OUTSIDER
    if container.engine != stage.engine:
        return Role.AWAY if stage.away else Role.OUTSIDER
    if container.label(PROJECT) != stage.project.name:
        return Role.OUTSIDER
    return Role.OWN if is_replaced(container, stage.project) else Role.ORPHAN


def is_replaced(container: Container, project: ComposeProject) -> bool:
    """Whether it is a container of an enabled service, which `up` keeps, replaces or removes."""
    names = {service.name for service in project.services}
    return (
        container.label(PROJECT) == project.name
        and container.label(SERVICE) in names
        and not is_one_off(container)
    )


def is_one_off(container: Container) -> bool:
    """Whether `docker compose run` started it."""
    return (container.label(ONE_OFF) or "").lower() == "true"


def orphans(report: PortReport, stage: Stage) -> list[Container]:
    """The containers of the project that hold the port, and that `up` does not replace."""
    found = [
        each.classification.holder.container
        for each in report.holders
        if _role(each, report.request, stage) is Role.ORPHAN
    ]
    return [each for each in dict.fromkeys(found) if each is not None]
