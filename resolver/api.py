"""The package's own functions: what the command line does, for Python callers."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from resolver import pipeline, portspec
from resolver.errors import UsageError
from resolver.gather import list_sockets
from resolver.host.clock import SystemClock
from resolver.host.runner import run_command
from resolver.model import Policy
from resolver.strategies import Effects

if TYPE_CHECKING:
    from resolver.model import Outcome, PortRequest, Report, Step
    from resolver.protocols import Observer


class Silent:
    """An observer that allows every step and shows nothing."""

    def allows(self, step: Step) -> bool:  # noqa: ARG002 - the protocol's signature
        """Every step that was planned."""
        return True

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
        ports: numbers, or text in the PORT grammar (`"8085/udp"`, `"127.0.0.1:8000-8010"`); none
            asks for every port that is held.
        observer: follows the steps.
        options: fields of `Policy`.

    Returns:
        A frozen report; `report.ports` has one entry for each port, in the order given.

    Raises:
        UsageError: a port or an option that makes no sense.
    """
    requests = portspec.parse(map(str, ports)) if ports else None
    return pipeline.who(requests, policy(options), effects(observer))


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
    requests: tuple[PortRequest, ...] = portspec.parse(map(str, ports))
    if not requests:
        raise UsageError("no port was given")
    return pipeline.resolve(requests, policy(options), effects(observer))


def policy(options: dict[str, Any]) -> Policy:
    """The caller's policy.

    Raises:
        UsageError: an unknown option, or a time that is negative.
    """
    for name, value in options.items():
        if name not in Policy.__slots__:
            raise UsageError(f"there is no option {name!r}")
        if name.endswith("_seconds") and not 0 <= value < float("inf"):
            raise UsageError(f"{name} is {value}: a time in seconds, 0 or more, is wanted")
    return replace(Policy(euid=os.geteuid()), **options)


def effects(observer: Observer | None) -> Effects:
    """The real clock and commands."""
    return Effects(SystemClock(), run_command, observer or Silent(), list_sockets)
