"""The seams between the rooms: what a part may expect of another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resolver.model import (
        Classification,
        Completed,
        Holder,
        Outcome,
        PortRequest,
        Snapshot,
        Socket,
        Step,
    )
    from resolver.reservations.model import Claim, Lease


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


class LeaseStore(Protocol):
    """Keeps leases, and arbitrates between those who want the same port."""

    def acquire(self, claims: Sequence[Claim]) -> tuple[Lease, ...]:
        """Grants all the claims in one step, or none of them.

        What stands in the way and has expired, or whose owner is dead, is reclaimed first. A claim
        of the same project for the same service and endpoint renews that lease, with a new token,
        unless a living owner other than the claim's has it.

        Raises:
            ReservedError: somebody else's living lease is in the way; nothing was granted.
            StoreError: the store cannot be reached or written; nothing was granted.
        """
        ...

    def release(self, leases: Sequence[Lease]) -> tuple[Lease, ...]:
        """Ends those leases that are still what they were (by token); returns the ones it ended.

        Raises:
            StoreError: the store cannot be reached or written.
        """
        ...

    def renew(self, lease: Lease, ttl_seconds: float | None) -> Lease:
        """Gives a lease more time, and its port a new expiry.

        Raises:
            ReservedError: it was lost meanwhile.
            StoreError: the store cannot be reached or written.
        """
        ...

    def leases(self, scope: str | None = None) -> tuple[Lease, ...]:
        """Every lease that is alive, of one scope or of all, sorted by scope, transport and port.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    def prune(self) -> tuple[Lease, ...]:
        """Forgets the leases that have expired or whose owner is dead; returns them."""
        ...

    def remember(self, scope: str, project: str, place: str, ports: Mapping[str, int]) -> None:
        """Keeps the port that each service of a project got last, as long as the store lives."""
        ...

    def recall(self, scope: str, project: str, place: str) -> dict[str, int]:
        """The port that each service of the project got last."""
        ...

    def close(self) -> None:
        """Lets go of the store."""
        ...
