"""The frozen values that flow through the pipeline.

PortRequest → Snapshot → Holder → Classification → Plan → Outcome → PortReport → Report. Nothing
here reads the machine or changes it, and raw answers of the kernel or an engine never get this far.
Unknown facts are `None` next to a field that holds the reason.
"""

from __future__ import annotations

import re
from enum import IntEnum, StrEnum
from typing import NewType

from msgspec import Struct

Pid = NewType("Pid", int)
PortNumber = NewType("PortNumber", int)

ANY_IPV4 = "0.0.0.0"  # noqa: S104 - named here, never bound here
ANY_IPV6 = "::"
_CONTAINER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")  # names.RestrictedNamePattern of Moby


class Transport(StrEnum):
    """The transports that have ports here."""

    TCP = "tcp"
    UDP = "udp"


class SocketState(StrEnum):
    """How a socket, or an engine's port mapping, occupies a port."""

    LISTENING = "listening"
    BOUND = "bound"  # bound, not listening
    UNCONNECTED = "unconnected"  # a UDP socket that takes datagrams from anybody
    CONNECTED = "connected"  # a connection whose local port this is
    CLOSING = "closing"  # TIME_WAIT and kin: no process owns it any more
    REDIRECTED = "redirected"  # a NAT rule takes what arrives, without any socket
    PUBLISHED = "published"  # an engine's mapping without a socket in this namespace


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


class Scan(StrEnum):
    """Where the owners of sockets were looked for."""

    COMPLETE = "complete"  # in every process
    CGROUP = "cgroup"  # in the cgroup that each socket was made in: another owner is not seen


class Result(StrEnum):
    """How one step ended."""

    DONE = "done"
    GONE = "gone"
    NOT_PERMITTED = "not-permitted"
    FAILED = "failed"
    SKIPPED = "skipped"


class Verdict(StrEnum):
    """What is true of one requested port in the end."""

    FREE = "free"
    FREED = "freed"
    HELD = "held"
    RETAKEN = "retaken"
    ADVISED = "advised"
    REFUSED = "refused"
    HIDDEN = "hidden"
    UNDECIDED = "undecided"


class ExitStatus(IntEnum):
    """The command's exit statuses; public API."""

    FREE = 0
    HELD = 1
    USAGE = 2
    ADVISED = 3
    HIDDEN = 4
    UNDECIDED = 5
    INTERRUPTED = 130


class Binding(Struct, frozen=True, order=True):
    """A local endpoint: canonical address text without brackets, and a port of 1 to 65535."""

    transport: Transport
    address: str
    port: PortNumber

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}/{self.transport}"


class PortRequest(Struct, frozen=True, order=True):
    """One port that somebody asked about; `address` None means every address of the machine."""

    port: PortNumber
    transport: Transport = Transport.TCP
    address: str | None = None

    def __str__(self) -> str:
        if self.address is None:
            return f"{self.port}/{self.transport}"
        return str(Binding(self.transport, self.address, self.port))

    def meets(self, binding: Binding, *, v6only: bool | None = None) -> bool:
        """True where a server on this request's address would collide with `binding`.

        A `::` socket takes IPv4 too unless it is IPv6-only (ipv6(7), IPV6_V6ONLY); where that is
        not known, it counts as a collision, and the bind proof has the last word.
        """
        if (binding.port, binding.transport) != (self.port, self.transport):
            return False
        wanted, held = self.address, binding.address
        if wanted is None or wanted in {held, ANY_IPV6}:
            return True
        if held == ANY_IPV6:
            return ":" in wanted or not v6only
        return ANY_IPV4 in {wanted, held} and ":" not in wanted + held


class ProcessIdentity(Struct, frozen=True, order=True):
    """A process for as long as it lives: its PID and when it started.

    `start_time` is in clock ticks since boot on Linux (proc_pid_stat(5), field 22) and in
    milliseconds since the epoch elsewhere; it is only ever compared for equality.
    """

    pid: Pid
    start_time: int


class Command(Struct, frozen=True):
    """A command line for people: `argv`, to be run in `folder`, with a `comment` for its reader.

    Whoever prints it quotes each word for itself (`report.commands.shell_line`).
    """

    argv: tuple[str, ...]
    comment: str = ""
    folder: str | None = None


class Account(Struct, frozen=True):
    """A user as whom a manager's commands are run, with what they need in their environment."""

    uid: int
    gid: int
    name: str
    home: str
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def prefix(self) -> tuple[str, ...]:
        """What makes a command line this user's (sudo(8), env(1))."""
        variables = tuple(f"{name}={text}" for name, text in self.environment)
        return ("sudo", "-u", self.name, *(("env", *variables) if variables else ()))


class Process(Struct, frozen=True):
    """The facts about one process at the time of the scan.

    `ancestors` runs from the parent up to PID 1. `cgroups` holds the path of each hierarchy.
    `uids` are its real, effective and saved user ids, and `uid` the
    real one. `on_terminal` says
    that its standard input is a terminal, and `signalable` that kill(2) would let this user signal
    it. `command`, `executable`, `cwd`
    and `environment` are empty or None where they are hidden from this user; the environment is
    for classifiers, and is never printed.
    """

    identity: ProcessIdentity
    name: str
    command: tuple[str, ...] = ()
    executable: str | None = None
    cwd: str | None = None
    user: str | None = None
    uid: int | None = None
    uids: tuple[int, int, int] | None = None
    ancestors: tuple[ProcessIdentity, ...] = ()
    cgroups: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    stopped: bool = False
    on_terminal: bool = False
    signalable: bool = True

    @property
    def pid(self) -> Pid:
        """The PID alone, for printing."""
        return self.identity.pid

    @property
    def parent(self) -> ProcessIdentity | None:
        """The parent at the time of the scan; None for PID 1 and for a hidden parent."""
        return self.ancestors[0] if self.ancestors else None

    def __str__(self) -> str:
        return f"{self.name} {self.pid}"

    def variable(self, name: str) -> str | None:
        """One environment variable, as it was when the process started."""
        return dict(self.environment).get(name)


class Socket(Struct, frozen=True, order=True):
    """A socket that occupies a port; `inode` 0 means that no process owns it any more.

    `v6only` is None where it is not known or does not apply; `cgroup_id` is the cgroup v2 id, which
    is the inode number of the cgroup's directory, and `cgroup` that directory's path where it was
    looked up. `owners` is sorted; empty and `inode` not 0 means
    that the owner is hidden from this user.
    """

    binding: Binding
    state: SocketState
    inode: int
    uid: int | None = None
    v6only: bool | None = None
    cgroup_id: int | None = None
    cgroup: str | None = None
    peer: str | None = None
    owners: tuple[ProcessIdentity, ...] = ()


class Container(Struct, frozen=True):
    """What an engine says of one container.

    `published` are the host bindings that it holds or, between two restarts, would take again.
    `restart_policy` is the Engine API's name with its retry count, as in `on-failure:3`.
    `stop_timeout_seconds` is the container's own grace. `sharing` names the containers that live in
    its network namespace. `client` begins the commands that reach its engine. `uid` is the user
    who listens at its engine's socket, None where that cannot be told; `foreign` says that it is
    another user's engine, whose word counts for that user's sockets and processes only.
    """

    id: str
    name: str
    engine: str
    image: str = ""
    state: str = ""
    published: tuple[Binding, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    network_mode: str = ""
    restart_policy: str = "no"
    auto_remove: bool = False
    stop_timeout_seconds: int = 10
    sharing: tuple[str, ...] = ()
    client: tuple[str, ...] = ("docker",)
    uid: int | None = None
    foreign: bool = False

    @property
    def handle(self) -> str:
        """What a command calls it: its name, or its short id where that is no name of Docker's.

        An engine may say that a container is called `--help`, or `$(reboot)`.
        """
        return self.name if _CONTAINER_NAME.match(self.name) else self.id[:12]

    def label(self, name: str) -> str | None:
        """The value of one label."""
        return dict(self.labels).get(name)


class Redirect(Struct, frozen=True, order=True):
    """A NAT rule that captures the ports `first` to `last`, inclusive, of `address` or of all.

    `where` names its chain, and `delete` is the command that removes it.
    """

    transport: Transport
    first: int
    last: int
    target: str
    where: str
    delete: tuple[str, ...]
    address: str = ANY_IPV4

    def captures(self, request: PortRequest) -> bool:
        """Whether what is sent to the requested port would go elsewhere."""
        if not (self.transport is request.transport and self.first <= request.port <= self.last):
            return False
        return self.address == ANY_IPV4 or request.address in {None, self.address, ANY_IPV4}


class EngineState(Struct, frozen=True):
    """One engine endpoint and how it answered.

    `trouble` is None where it answered in time, else the reason; `absent` marks an endpoint that
    simply does not exist here, which is no trouble at all, and `forbidden` one that this user may
    not use, or should not. `elsewhere` says that its published ports are in another network
    namespace than ours, and why we think so. `chosen` marks the one that the docker command line
    would talk to; the others were found beside it. `client` begins the commands that reach the
    engine. `asked` is False where it was not: what is seen here explains the ports, or `trouble`
    says why. `uid` is the user who listens at its socket, None where that cannot be told (tcp,
    ssh); `foreign` says that it is another user's, which may explain that user's ports only.
    """

    endpoint: str
    trouble: str | None = None
    absent: bool = False
    forbidden: bool = False
    elsewhere: str | None = None
    chosen: bool = True
    client: tuple[str, ...] = ("docker",)
    asked: bool = True
    uid: int | None = None
    foreign: bool = False

    @property
    def unremarkable(self) -> bool:
        """Whether its trouble is nobody's: nothing there, or merely found and not for this user."""
        return self.absent or (self.forbidden and not self.chosen)

    @property
    def silent(self) -> bool:
        """Whether it might explain anybody's port, and did not answer, even though we may ask."""
        return self.trouble is not None and not (self.absent or self.forbidden or self.foreign)


class Snapshot(Struct, frozen=True):
    """All that was gathered in one scan; every tuple is sorted.

    `processes` holds the owners, their ancestors and the caller's own line, by identity;
    `contained` says that this command runs in a container, as a CI runner does. `ended` are holders
    that were ended in an earlier round, before the port was taken back.
    `blind_spot` says why the owner of a socket may not be among them.
    """

    sockets: tuple[Socket, ...] = ()
    processes: tuple[Process, ...] = ()
    containers: tuple[Container, ...] = ()
    engines: tuple[EngineState, ...] = ()
    redirects: tuple[Redirect, ...] = ()
    own: tuple[ProcessIdentity, ...] = ()
    ended: tuple[Process, ...] = ()
    own_container: str | None = None
    contained: bool = False
    blind_spot: str = "its owner is hidden from this user"
    scan: Scan = Scan.COMPLETE
    notes: tuple[str, ...] = ()

    def process(self, identity: ProcessIdentity | None) -> Process | None:
        """The facts about one process, or None where it was hidden or had gone."""
        return next((found for found in self.processes if found.identity == identity), None)


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


class Manager(Struct, frozen=True):
    """What would start a holder again, and the commands that end and begin it.

    `stop` and `start` are argument vectors; `prefix` is what an unprivileged user puts in front
    (`sudo`), empty where none is needed. `account` is the user as whom the commands are run, where
    that is not the caller. `patience_seconds` is how long the manager may go on
    stopping after its command has returned.
    """

    kind: str
    name: str
    policy: str
    stop: tuple[tuple[str, ...], ...] = ()
    start: tuple[tuple[str, ...], ...] = ()
    prefix: tuple[str, ...] = ()
    account: Account | None = None
    patience_seconds: float = 0.0


class Classification(Struct, frozen=True):
    """What a holder is, what would bring it back, and how that is known.

    `respawners` are parents that start the holder again, and can be ended with it: the topmost
    first, then what stands between it and the holder.
    `harm` says who else would suffer if the holder was killed, empty where nobody would: such a
    service is left to its manager's own command, even where nothing starts it again. `runner` is
    a manager that has no such command, and ends everything that it runs when it gets a SIGTERM.
    `spared` says why it is left alone unless the caller insists (`force`).
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


class KillStep(Struct, frozen=True):
    """End a process family: its masters first, then those of its members that stay.

    `inodes` are the sockets by which it holds the port: without them it is left to finish in peace,
    but for the `respawners`, which have to end. `patience_seconds` is added to the caller's grace.
    """

    bindings: tuple[Binding, ...]
    masters: tuple[Process, ...]
    members: tuple[Process, ...]
    inodes: frozenset[int]
    why: str
    undo: tuple[Command, ...] = ()
    respawners: frozenset[ProcessIdentity] = frozenset()
    patience_seconds: float = 0.0
    kind: str = "kill"
    commands: tuple[Command, ...] = ()


class StopContainerStep(Struct, frozen=True):
    """Stop a container through its engine."""

    bindings: tuple[Binding, ...]
    container: Container
    why: str
    undo: tuple[Command, ...] = ()
    kind: str = "stop-container"
    commands: tuple[Command, ...] = ()


class StopServiceStep(Struct, frozen=True):
    """Stop a managed service through its manager's own command."""

    bindings: tuple[Binding, ...]
    manager: Manager
    why: str
    undo: tuple[Command, ...] = ()
    kind: str = "stop-service"
    commands: tuple[Command, ...] = ()


class AdviseStep(Struct, frozen=True):
    """Touch nothing; say why, and what to run instead. `verdict` is what it makes of the port."""

    bindings: tuple[Binding, ...]
    verdict: Verdict
    why: str
    commands: tuple[Command, ...] = ()
    undo: tuple[Command, ...] = ()
    kind: str = "advise"


Step = KillStep | StopContainerStep | StopServiceStep | AdviseStep


class Planned(Struct, frozen=True):
    """A classified holder and the step that was chosen for it; holders may share one step."""

    classification: Classification
    step: Step


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


class Outcome(Struct, frozen=True):
    """How a step ended, why, and what was done, in order, in words."""

    step: Step
    result: Result
    reason: str = ""
    actions: tuple[str, ...] = ()


class Proof(Struct, frozen=True):
    """What came of binding the requested addresses.

    `free` True: bound. `free` False: EADDRINUSE, on `where`. `free` None: this user or machine
    cannot tell, for the `reason`. `lingering`: it was bound with SO_REUSEADDR only, since these
    connections are still on the port; empty where it was bound plainly.
    """

    free: bool | None
    reason: str = ""
    where: str = ""
    lingering: str = ""


class HolderReport(Struct, frozen=True):
    """One holder from gathering to outcome; `outcome` is None where nothing was applied."""

    classification: Classification
    step: Step | None = None
    outcome: Outcome | None = None


class PortReport(Struct, frozen=True):
    """The end of the story for one requested port.

    `services` are the names by which it was asked for.
    """

    request: PortRequest
    verdict: Verdict
    reason: str = ""
    holders: tuple[HolderReport, ...] = ()
    retaken_by: tuple[HolderReport, ...] = ()
    notes: tuple[str, ...] = ()
    services: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The request as people read it: `8085/tcp (api)` where it was asked for by name."""
        return (
            f"{self.request} ({', '.join(self.services)})" if self.services else f"{self.request}"
        )


class Report(Struct, frozen=True):
    """The answer to one call: a report for each requested port, in the order of the request."""

    command: str
    ports: tuple[PortReport, ...] = ()
    notes: tuple[str, ...] = ()
    asides: tuple[str, ...] = ()  # what only a verbose reader wants
    dry_run: bool = False
    exit_status: ExitStatus = ExitStatus.FREE
    engines: tuple[EngineState, ...] = ()  # how each one answered
    scan: Scan = Scan.COMPLETE


class Completed(Struct, frozen=True):
    """What a command gave back."""

    status: int
    stdout: str
    stderr: str


class Policy(Struct, frozen=True):
    """What the caller allows and how long things may take; times are in seconds.

    `rounds` bounds how often a port that was taken back is worked on. `complete` asks for every
    owner of a socket, wherever, and every engine; without it, owners in the socket's cgroup may do,
    and engines that could add little are not asked. `euid` is the caller's effective user id, and
    `again` the command line that an advice repeats behind `sudo`.
    """

    grace_seconds: float = 5.0
    settle_seconds: float = 1.0
    docker_timeout_seconds: float = 2.0
    rounds: int = 3
    dry_run: bool = False
    force: bool = False
    stop_services: bool = False
    use_docker: bool = True
    complete: bool = True
    euid: int = 0
    again: tuple[str, ...] = ("ultra-ports",)
