"""The seams between the rooms: what a part may expect of another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from resolver.leases.model import Claim, Lease
    from resolver.model import (
        Account,
        Classification,
        Completed,
        Holder,
        Outcome,
        PortRequest,
        Snapshot,
        Socket,
        Step,
    )


class CommandRunner(Protocol):
    """Runs a manager's command without a shell."""

    def __call__(
        self,
        argv: Sequence[str],
        *,
        timeout_seconds: float,
        account: Account | None = None,
        folder: str | None = None,
    ) -> Completed:
        """Returns its output, whatever its status; `account` and `folder` are as and where it runs.

        Raises:
            CommandFailedError: it does not exist, may not be run, or did not end in time.
        """
        ...


class Clock(Protocol):
    """Time that only goes forward: the module `time`, where nobody is to be hurried."""

    def monotonic(self) -> float:
        """Seconds."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Waits."""
        ...


class Classifier(Protocol):
    """One module of `resolver.classify`: a kind of owner."""

    def classify(
        self, holder: Holder, snapshot: Snapshot, run: CommandRunner
    ) -> Classification | None:
        """What the holder is, or None where it is not of this kind."""
        ...


class Observer(Protocol):
    """Whoever follows the steps: it shows progress, and may object to a step."""

    def objection(self, step: Step, holders: Sequence[Classification]) -> str:
        """Why the step is not to be applied, empty where it may be: asked before each one.

        `holders` are those whom it would end.
        """
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
    """Keeps leases, and arbitrates between those who want the same port.

    A store may be used by several threads, and after a fork. The claims and leases of one service
    (the same scope, project, place and service) stand in each other's way only where two different
    owners have them: so a reservation without an owner outlives the run that uses it.
    """

    @property
    def where(self) -> str:
        """Where the leases are kept, for messages: a path, an address without its password."""
        ...

    @property
    def lasting(self) -> bool:
        """Whether the leases outlive this process, and others can see them."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user must be told of opening and using the store; the callers print it once."""
        ...

    def acquire(self, claims: Sequence[Claim]) -> tuple[Lease, ...]:
        """Grants all the claims in one step, or none of them; the leases are in their order.

        What stands in the way and has expired, or whose owner is dead, is reclaimed first. A claim
        replaces the lease that has the same scope, endpoint, service, project, place and owner (or
        both have none), and gets a new token. A claim with an owner and without a time to live gets
        one where others could not judge its owner (`rules.bounded`): where the lease comes back
        with an end, its owner renews it every `settings.RENEW_SECONDS`.

        Raises:
            ReservedError: somebody else's living lease is in the way, or two of the claims are in
                each other's; nothing was granted.
            UsageError: a claim has neither an owner nor a time to live.
            StoreError: the store cannot be reached or written; nothing was granted.
        """
        ...

    def acquire_first(self, claims: Iterable[Claim]) -> tuple[Lease | None, tuple[Lease, ...]]:
        """Grants the first of the claims that can be, and says which leases forbid those before.

        Where none can be granted, the lease is None. So of many who want the first port that is
        left, each waits for the store once, and not once for each that was quicker.

        Raises:
            As `acquire`, but for a lease that is in the way.
        """
        ...

    def release(self, leases: Sequence[Lease]) -> tuple[Lease, ...]:
        """Ends those leases that are still what they were (by token); returns the ones it ended.

        Raises:
            StoreError: the store cannot be reached or written.
        """
        ...

    def renew(self, lease: Lease, ttl_seconds: float | None) -> Lease:
        """Gives a lease a new end, counted from now; its token stays. None is as for `acquire`.

        One that has expired, but was not reclaimed by anybody, may be renewed or be lost, as the
        store likes.

        Raises:
            ReservedError: it was lost meanwhile.
            StoreError: the store cannot be reached or written.
        """
        ...

    def leases(self, scope: str | None = None) -> tuple[Lease, ...]:
        """Every lease that is alive, of one scope or of all, by scope, transport, port and token.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    def is_empty(self) -> bool:
        """Whether nothing is kept, as far as that can be told at no cost.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    def prune(self) -> tuple[Lease, ...]:
        """Forgets the leases that have expired or whose owner is dead; returns them.

        Raises:
            StoreError: the store cannot be reached or written.
        """
        ...

    def remember(self, scope: str, project: str, place: str, ports: Mapping[str, int]) -> None:
        """Keeps the port that each service of a project got last, as long as the store lives.

        Raises:
            StoreError: the store cannot be reached or written.
        """
        ...

    def recall(self, scope: str, project: str, place: str) -> dict[str, int]:
        """The port that each service of the project got last.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    def close(self) -> None:
        """Lets go of the store."""
        ...
