"""What is to be done for each holder, and what the caller allows."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from resolver.model.holders import Classification, Command, Holder, Manager
from resolver.model.machine import Container, Process, ProcessIdentity, Snapshot
from resolver.model.ports import Binding


class Verdict(StrEnum):
    """What is true of one requested port in the end."""

    FREE = "free"
    RESERVED = "reserved"  # free, and kept for somebody by a lease
    FREED = "freed"
    WOULD_FREE = "would-free"  # in a dry run
    HELD = "held"
    RETAKEN = "retaken"
    ADVISED = "advised"
    REFUSED = "refused"
    HIDDEN = "hidden"
    UNDECIDED = "undecided"

    @property
    def is_free(self) -> bool:
        """Whether nobody holds it."""
        return self in {Verdict.FREE, Verdict.RESERVED}

    @property
    def stays_held(self) -> bool:
        """Whether it was not freed, and would not be."""
        return not (self.is_free or self in {Verdict.FREED, Verdict.WOULD_FREE})


class KillStep(Struct, frozen=True, eq=False):
    """End a process family: its masters first, then those of its members that stay.

    `inodes` are the sockets by which it holds the port: without them it is left to finish in peace,
    but for the `respawners`, which have to end. `patience_seconds` is added to the caller's grace.
    `shutdown` is the signal that asks for the end; where `lenient` is set, nothing is killed after
    it, and it says what to tell then.
    """

    bindings: tuple[Binding, ...]
    masters: tuple[Process, ...]
    members: tuple[Process, ...]
    inodes: frozenset[int]
    why: str
    undo: tuple[Command, ...] = ()
    respawners: frozenset[ProcessIdentity] = frozenset()
    patience_seconds: float = 0.0
    shutdown: str = "SIGTERM"
    lenient: str = ""
    kind: str = "kill"
    commands: tuple[Command, ...] = ()


class StopContainerStep(Struct, frozen=True, eq=False):
    """Stop a container through its engine.

    `patience_seconds` takes the place of the container's own grace where `lenient` is set: it is
    not killed after it then, and that is what to tell.
    """

    bindings: tuple[Binding, ...]
    container: Container
    why: str
    patience_seconds: float = 0.0
    lenient: str = ""
    undo: tuple[Command, ...] = ()
    kind: str = "stop-container"
    commands: tuple[Command, ...] = ()


class StopServiceStep(Struct, frozen=True, eq=False):
    """Stop a managed service through its manager's own command.

    `contained` is stopped, too: the manager only ends the client that follows it. `then` ends
    whoever has the port that the service waited for.
    """

    bindings: tuple[Binding, ...]
    manager: Manager
    why: str
    contained: StopContainerStep | None = None
    then: KillStep | StopContainerStep | None = None
    undo: tuple[Command, ...] = ()
    kind: str = "stop-service"
    commands: tuple[Command, ...] = ()


class AdviseStep(Struct, frozen=True, eq=False):
    """Touch nothing; say why, and what to run instead. `verdict` is what it makes of the port."""

    bindings: tuple[Binding, ...]
    verdict: Verdict
    why: str
    commands: tuple[Command, ...] = ()
    undo: tuple[Command, ...] = ()
    kind: str = "advise"


# Steps are compared by identity: holders that end together share one.
Step = KillStep | StopContainerStep | StopServiceStep | AdviseStep


class Planned(Struct, frozen=True):
    """A classified holder and the step that was chosen for it; holders may share one step."""

    classification: Classification
    step: Step

    @property
    def holder(self) -> Holder:
        """Who it is."""
        return self.classification.holder


class Plan(Struct, frozen=True):
    """The chosen steps in the order in which they are applied, each once."""

    planned: tuple[Planned, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """Each distinct step, in order."""
        return tuple(dict.fromkeys(planned.step for planned in self.planned))


class Diagnosis(Struct, frozen=True):
    """What one look at the machine came to."""

    snapshot: Snapshot = Snapshot()
    plan: Plan = Plan()


class Policy(Struct, frozen=True):
    """What the caller allows and how long things may take; times are in seconds.

    `accept_loss` goes on where more than the port would be lost. `only_mine` spares whoever is not
    known to belong to the caller's checkout, and `take` ends what runs under another one's lease.
    `rounds` bounds how often a port that was taken back is worked on. `complete` asks for every
    owner of a socket, wherever, and every engine; without it, owners in the socket's cgroup may do,
    and engines that could add little are not asked. `euid` is the caller's effective user id, and
    `rerun_command` the command line that an advice repeats behind `sudo`.
    """

    grace_seconds: float = 5.0
    settle_seconds: float = 1.0
    docker_timeout_seconds: float = 2.0
    rounds: int = 3
    dry_run: bool = False
    force: bool = False
    stop_services: bool = False
    accept_loss: bool = False
    only_mine: bool = False
    take: bool = False
    use_docker: bool = True
    complete: bool = True
    euid: int = 0
    rerun_command: tuple[str, ...] = ("ultra-ports",)
