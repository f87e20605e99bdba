"""What a holder was judged to be, and the step that was chosen for it."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from resolver.model.machine import Account, Container, Process, ProcessIdentity, Redirect, Snapshot
from resolver.model.ports import Binding, SocketState


class Kind(StrEnum):
    """What a holder is."""

    LOCAL = "local"
    CONTAINER = "container"
    SERVICE = "service"
    ANCESTOR = "ancestor"
    PROTECTED = "protected"
    FORWARDER = "forwarder"
    ORPHAN = "orphan"
    REDIRECT = "redirect"
    BYSTANDER = "bystander"
    HIDDEN = "hidden"
    UNKNOWN = "unknown"


class Respawn(StrEnum):
    """Whether something would start the holder again."""

    NO = "no"
    YES = "yes"
    UNKNOWN = "unknown"


class Confidence(StrEnum):
    """Whether the manager itself was asked."""

    CONFIRMED = "confirmed"
    SUSPECTED = "suspected"


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


class Command(Struct, frozen=True):
    """A command line for people: `argv`, to be run in `folder`, with a `comment` for its reader.

    Whoever prints it quotes each word for itself (`report.commands.shell_line`).
    """

    argv: tuple[str, ...]
    comment: str = ""
    folder: str | None = None


class Holder(Struct, frozen=True):
    """One owner (a process with its family, or a container) of one binding.

    `processes` has the masters first: owners that have no other owner above them. `hidden` is the
    reason where a socket exists whose owner cannot be seen; `kernel` marks one that has none,
    and `cgroup` says which unit or container such an owner belongs to. `handed_over`: another
    user made the socket, whose `uid` it has, and the processes have only been given it.
    """

    binding: Binding
    state: SocketState
    processes: tuple[Process, ...] = ()
    masters: tuple[ProcessIdentity, ...] = ()
    container: Container | None = None
    redirect: Redirect | None = None
    uid: int | None = None
    inodes: frozenset[int] = frozenset()
    hidden: str | None = None
    kernel: bool = False
    cgroup: str | None = None
    peer: str | None = None
    v6only: bool | None = None
    handed_over: bool = False

    @property
    def master(self) -> Process | None:
        """The first master; None where the owner is hidden or a container alone."""
        return self.processes[0] if self.processes else None


class StopInquiry(Struct, frozen=True):
    """How a manager is asked whether a service has stopped: the regex `down` matches its answer."""

    argv: tuple[str, ...]
    down: str


class Manager(Struct, frozen=True):
    """What would start a holder again, and the commands that end and begin it.

    `stop` and `start` are argument vectors; `prefix` is what an unprivileged user puts in front
    (`sudo`), empty where none is needed. `account` is the user as whom the commands are run, where
    that is not the caller. `patience_seconds` is how long the manager may go on
    stopping after its command has returned; `inquiry` is for one whose command does not wait, and
    the regex `busy` matches the refusal of one that is to be asked again in a moment.
    """

    kind: str
    name: str
    policy: str
    stop: tuple[tuple[str, ...], ...] = ()
    start: tuple[tuple[str, ...], ...] = ()
    prefix: tuple[str, ...] = ()
    account: Account | None = None
    patience_seconds: float = 0.0
    inquiry: StopInquiry | None = None
    busy: str = ""


class CollateralKind(StrEnum):
    """What else is lost with a holder."""

    PORT = "port"  # another port that the same processes serve
    INHERITED = "inherited"  # the holder serves something else, and was left this port
    SESSION = "session"  # somebody's terminal
    ACCESS = "access"  # remote access, and whoever works through it
    DESKTOP = "desktop"  # somebody's display
    MACHINE = "machine"  # a guest
    DEVICE = "device"  # hardware that it drives, or a file system or disk that it serves
    NETWORK = "network"  # a network interface, and what goes through it
    STATE = "state"  # what somebody works with, in memory only
    DATA = "data"  # data that have their own way down
    REGISTRANTS = "registrants"  # others rely on it, or forward through it
    WORKERS = "workers"  # processes that serve the port through it
    SIBLINGS = "siblings"  # what its runner would end with it
    CALLER = "caller"  # this very command


class Degree(StrEnum):
    """What a loss means for the plan."""

    MENTIONED = "mentioned"  # goes down with a server by its design: said, and stops nothing
    REFUSED = "refused"  # somebody else's: nothing is ended without `accept_loss`


class Collateral(Struct, frozen=True):
    """One thing that would be lost with a holder, and how that is known.

    `text` is a noun phrase. `commands` take the port off the holder and leave the rest.
    `shutdown` names the signal with which a database ends in good order, and `patience_seconds` is
    how long that may take: it is not killed after it.
    """

    kind: CollateralKind
    degree: Degree
    text: str
    evidence: str = ""
    commands: tuple[Command, ...] = ()
    shutdown: str = ""
    patience_seconds: float = 0.0


class Whose(StrEnum):
    """To which checkout a holder belongs, seen from the caller's."""

    MINE = "mine"
    OTHER = "other"
    UNKNOWN = "unknown"


class Ownership(Struct, frozen=True):
    """Whose a holder is, and how that is known.

    `place` is the directory of its checkout, and `branch` what is checked out there where it is
    another one's. `leased` is the service under whose living lease it runs, `gone` says that the
    place was deleted.
    """

    whose: Whose = Whose.UNKNOWN
    project: str = ""
    place: str = ""
    branch: str = ""
    leased: str = ""
    gone: bool = False
    evidence: tuple[str, ...] = ()

    def __str__(self) -> str:
        """`shop, branch main, in /work/a`."""
        leased = f"{self.leased} of {self.project}" if self.leased else self.project
        branch = f", branch {self.branch}" if self.branch else ""
        where = f", in {self.place}{' (deleted)' if self.gone else ''}" if self.place else ""
        return f"{leased}{branch}{where}"


class Classification(Struct, frozen=True):
    """What a holder is, what would bring it back, and how that is known.

    `respawners` are parents that start the holder again, and can be ended with it: the topmost
    first, then what stands between it and the holder.
    `harm` says who else would suffer if the holder was killed, empty where nobody would: such a
    service is left to its manager's own command, even where nothing starts it again. `runner` is
    a manager that has no such command, and ends everything that it runs when it gets a SIGTERM.
    `spared` says why it is left alone unless the caller insists (`force`). `collateral` is what
    else would be lost with it. `client` follows a container in the foreground. `waited`: the
    manager's service is another one, which waits for the port; and what the holder itself is.
    `restart` says in one line what would start it again; where it is empty, the reason does.
    `launcher` is the same program above it, whose command line is how both are started.
    """

    holder: Holder
    kind: Kind
    respawn: Respawn = Respawn.NO
    confidence: Confidence = Confidence.CONFIRMED
    manager: Manager | None = None
    chain: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    reason: str = ""
    commands: tuple[Command, ...] = ()
    respawners: tuple[Process, ...] = ()
    runner: Process | None = None
    harm: str = ""
    spared: str = ""
    collateral: tuple[Collateral, ...] = ()
    client: Process | None = None
    waited: Kind | None = None
    ownership: Ownership = Ownership()
    restart: str = ""
    launcher: Process | None = None

    @property
    def stops_container(self) -> bool:
        """Whether its step would stop a container: one that is spared stays so."""
        container = self.holder.container
        known = container is not None and bool(container.engine)
        return self.kind is Kind.CONTAINER and known and not self.spared


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
