"""The seams between the rooms: what a part may expect of another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from dataclasses import dataclass

    from resolver.model import (
        Classification,
        Holder,
        Outcome,
        PortRequest,
        Snapshot,
        Socket,
        Step,
    )
else:
    from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Completed:
    """What a command gave back."""

    status: int
    stdout: str
    stderr: str


class CommandRunner(Protocol):
    """Runs a manager's command without a shell."""

    def __call__(self, argv: Sequence[str], *, timeout_seconds: float) -> Completed:
        """Returns its output, whatever its status.

        Raises:
            CommandFailedError: it does not exist, or did not end in time.
        """
        ...


class Clock(Protocol):
    """Time that only goes forward."""

    def now(self) -> float:
        """Monotonic seconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Waits."""
        ...


class Classifier(Protocol):
    """One module of `resolver.classify`: a kind of owner."""

    RANK: int  # the lower one is asked first

    def classify(
        self, holder: Holder, snapshot: Snapshot, run: CommandRunner
    ) -> Classification | None:
        """What the holder is, or None where it is not of this kind."""
        ...


class Observer(Protocol):
    """Whoever follows the steps: it shows progress, and may refuse a step."""

    def allows(self, step: Step) -> bool:
        """Asked before each step that changes something."""
        ...

    def started(self, step: Step) -> None:
        """The step begins."""
        ...

    def did(self, action: str) -> None:
        """Something was changed just now."""
        ...

    def waiting(self, what: str, seconds_left: float) -> None:
        """Called several times a second during a long wait."""
        ...

    def finished(self, outcome: Outcome) -> None:
        """The step is over."""
        ...


class Watcher(Protocol):
    """Lists the sockets on requested ports; read-only, and quick enough to be called in a loop."""

    def __call__(
        self, requests: Sequence[PortRequest], *, connections: bool = False
    ) -> tuple[Socket, ...]:
        """The sockets that occupy any of the requested ports, without their owners."""
        ...
