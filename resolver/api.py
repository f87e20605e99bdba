"""The package's own functions: what the command line does, for Python callers."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from resolver import pipeline, planfile, stored
from resolver.errors import UsageError
from resolver.gather import list_sockets
from resolver.host.runner import run_command
from resolver.leases import assigned, notes, outcomes
from resolver.model import Policy
from resolver.ownership import with_ownership
from resolver.project import names
from resolver.settings import LONGEST_SECONDS
from resolver.stale import left_behind
from resolver.strategies import Effects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.model import Classification, Outcome, Report, Step
    from resolver.project.model import Project
    from resolver.project.names import Wanted
    from resolver.protocols import Observer


class Silent:
    """An observer that objects to nothing and shows nothing."""

    def objection(self, step: Step, holders: Sequence[Classification]) -> str:  # noqa: ARG002 - the protocol's signature
        """None to any step that was planned."""
        return ""

    def started(self, step: Step) -> None:
        """Shows nothing."""

    def did(self, action: str) -> None:
        """Shows nothing."""

    def waiting(self, what: str, seconds_left: float) -> None:
        """Shows nothing."""

    def finished(self, outcome: Outcome) -> None:
        """Shows nothing."""


def who(*ports: int | str, observer: Observer | None = None, **options: Any) -> Report:  # noqa: ANN401
    """Says who holds the given ports; touches nothing.

    Args:
        ports: numbers, text in the PORT grammar (`"8085/udp"`, `"127.0.0.1:8000-8010"`), or names
            of services (`"api"`); none asks for every port that is held.
        observer: follows the steps.
        options: fields of `Policy`.

    Returns:
        A frozen report; `report.ports` has one entry for each port, in the order given.

    Raises:
        UsageError: a port or an option that makes no sense.
    """
    wanted = names.wanted(map(str, ports), _project) if ports else None
    requests = wanted.requests if wanted else None
    report = pipeline.who(requests, policy(options), effects(observer))
    report = notes.with_reservations(report, os.environ)
    return wanted.on(report) if wanted else report


def stale(**options: Any) -> Report:  # noqa: ANN401
    """Says which ports are held by servers that were left behind alone; touches nothing.

    Args:
        options: fields of `Policy`.

    Raises:
        UsageError: an option that makes no sense.
    """
    complete = replace(policy(options), complete=True)
    return left_behind(pipeline.who(None, complete, effects(None)))


def resolve(*ports: int | str, observer: Observer | None = None, **options: Any) -> Report:  # noqa: ANN401
    """Frees the given ports where that does no harm, and proves it by binding them.

    Args:
        ports: at least one, as for `who`.
        observer: may refuse each step, and is told of progress.
        options: fields of `Policy`, such as `grace_seconds`, `settle_seconds`, `dry_run`.

    Returns:
        A frozen report; `report.exit_status` is 0 only where every port was bound for proof.

    Raises:
        UsageError: a port or an option that makes no sense; nothing was touched.
    """
    wanted = _wanted(ports)
    report = pipeline.resolve(wanted.requests, policy(options), effects(observer))
    outcomes.count(report, os.environ)
    return wanted.on(notes.with_reservations(report, os.environ))


def plan(*ports: int | str, observer: Observer | None = None, **options: Any) -> tuple[Report, str]:  # noqa: ANN401
    """Says what `resolve` would do to the given ports; touches nothing.

    Args:
        ports: at least one, as for `who`.
        observer: is not told of anything; nothing happens.
        options: fields of `Policy`.

    Returns:
        The report of a dry run, and the text of a plan file for `apply`.

    Raises:
        UsageError: a port or an option that makes no sense.
    """
    wanted = _wanted(ports)
    report, made = stored.plan(wanted.requests, policy(options), effects(observer))
    return wanted.on(report), planfile.write(made)


def apply(text: str, *, observer: Observer | None = None, **options: Any) -> Report:  # noqa: ANN401
    """Does what the text of a plan file says, if that is what would be done now.

    Args:
        text: from `plan`, or anybody: it is compared with a fresh plan, and nothing in it is run.
        observer: as for `resolve`.
        options: fields of `Policy`; those that shape a plan are the plan's own, but for `force`,
            which also ends processes at once, and `use_docker=False`.

    Raises:
        UsageError: the text is no plan, or an option makes no sense; nothing was touched.
        PlanChangedError: a holder has changed since; nothing was touched.
    """
    report = stored.apply(planfile.read(text), policy(options), effects(observer))
    outcomes.count(report, os.environ)
    return report


def _wanted(ports: tuple[int | str, ...]) -> Wanted:
    wanted = names.wanted(map(str, ports), _project, to_end=True)
    if not wanted.requests:
        raise UsageError("no port was given")
    return wanted


def _project() -> Project:
    """For names of services."""
    return assigned.current()


def policy(options: dict[str, Any]) -> Policy:
    """The caller's policy.

    Raises:
        UsageError: an unknown option, or a time that is negative.
    """
    for name, value in options.items():
        if name not in Policy.__struct_fields__:
            raise UsageError(f"there is no option {name!r}")
        if name.endswith("_seconds") and not 0 <= value <= LONGEST_SECONDS:
            raise UsageError(f"{name} is {value}: 0 to {LONGEST_SECONDS} seconds are wanted")
    return replace(Policy(euid=os.geteuid()), **options)


def effects(observer: Observer | None) -> Effects:
    """The real clock and commands."""
    return Effects(
        time,
        run_command,
        observer or Silent(),
        list_sockets,
        _with_ownership,
    )


def _with_ownership(found: tuple[Classification, ...]) -> tuple[Classification, ...]:
    """Whose each holder is, by the settings of this process."""
    return with_ownership(found, os.environ)
