"""A holder: what it is, what would bring it back, what is lost with it, and whose it is."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from resolver.model.machine import Account, Container, Process, ProcessIdentity, Redirect
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
        """`shop, branch main, in /srv/a`."""
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
