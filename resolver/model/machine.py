"""What was found on the machine: processes, sockets, containers, engines, and one scan of all."""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, NewType

from msgspec import Struct

from resolver.model.compose_labels import PROJECT, SERVICE
from resolver.model.ports import ANY_IPV4, Binding, PortRequest, SocketState, Transport

if TYPE_CHECKING:
    from collections.abc import Iterable

Pid = NewType("Pid", int)


_CONTAINER_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z"  # names.RestrictedNamePattern of Moby


class Scan(StrEnum):
    """Where the owners of sockets were looked for."""

    COMPLETE = "complete"  # in every process
    CGROUP = "cgroup"  # in the cgroup that each socket was made in: another owner is not seen


class ProcessIdentity(Struct, frozen=True, order=True):
    """A process for as long as it lives: its PID and when it started.

    `start_time` is in clock ticks since boot on Linux (proc_pid_stat(5), field 22) and in
    milliseconds since the epoch elsewhere; it is only ever compared for equality.
    """

    pid: Pid
    start_time: int


class Process(Struct, frozen=True):
    """The facts about one process at the time of the scan.

    `ancestors` runs from the parent up to PID 1. `cgroups` holds the path of each hierarchy.
    `uids` are its real, effective and saved user ids, and `uid` the real one. `on_terminal` says
    that its standard input is a terminal, and `signalable` that kill(2) would let this user signal
    it. `command`, `executable`, `cwd` and `environment` are empty or None where they are hidden
    from this user; the environment is for classifiers, and is never printed. `deleted_cwd` is the
    working directory that was deleted under it.
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
    deleted_cwd: str | None = None

    @property
    def pid(self) -> Pid:
        """The PID alone, for printing."""
        return self.identity.pid

    @property
    def parent(self) -> ProcessIdentity | None:
        """The parent at the time of the scan; None for PID 1 and for a hidden parent."""
        return self.ancestors[0] if self.ancestors else None

    @property
    def line(self) -> tuple[ProcessIdentity, ...]:
        """Itself and its ancestors, up to PID 1."""
        return (self.identity, *self.ancestors)

    @property
    def command_line(self) -> str:
        """Its words with spaces between them, for people and for patterns."""
        return " ".join(self.command)

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


UNATTENDED = "running, and its engine does not answer"
"""The state of a container that only its engine's files tell of."""


class Container(Struct, frozen=True):
    """What an engine says of one container.

    `published` are the host bindings that it holds or, between two restarts, would take again;
    `targets` its own port behind each of them, where an engine's API told of it. `restart_policy`
    is the Engine API's name with its retry count, as in `on-failure:3`. `stop_timeout_seconds` is
    the container's own grace. `main_pid` is its main process as the engine numbers it, `exit_code`
    what that ended with, and `conmon_pid` what watches over it for podman; 0 where it did not say.
    `sharing` names the containers that live in its network namespace, `beside` the others that run
    in its compose project. `client` begins the commands that reach its engine. `uid` is the user
    who listens at its engine's socket, None where that cannot be told; `foreign` says that it is
    another user's engine, whose word counts for that user's sockets and processes only. `account`
    is the user as whom its podman's command line is asked, where that is not the caller;
    `by_command` says that it told of the container, and no API did. `engine_start` starts an engine
    that does not answer.
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
    beside: tuple[str, ...] = ()
    client: tuple[str, ...] = ("docker",)
    uid: int | None = None
    foreign: bool = False
    main_pid: int = 0
    conmon_pid: int = 0
    account: Account | None = None
    by_command: bool = False
    engine_start: tuple[str, ...] = ()
    targets: tuple[int, ...] = ()
    exit_code: int = 0

    @property
    def mappings(self) -> Iterable[tuple[Binding, int]]:
        """Each of its host bindings with its own port behind it, as far as that is known."""
        return zip(self.published, self.targets, strict=False)

    @property
    def handle(self) -> str:
        """What a command calls it: its name, or its short id where that is no name of Docker's.

        An engine may say that a container is called `--help`, or `$(reboot)`.
        """
        return self.name if re.match(_CONTAINER_NAME, self.name) else self.id[:12]

    @property
    def title(self) -> str:
        """What people call it: a pod is stopped as a whole, and stands for its containers."""
        return f"{'pod' if self.client[-1:] == ('pod',) else 'container'} {self.name}"

    @property
    def compose(self) -> str:
        """`compose project shop, service web`; "" where it is of no project."""
        project, service = (self.label(PROJECT), self.label(SERVICE))
        return f"compose project {project}, service {service}" if project and service else ""

    def command(self, *words: str) -> tuple[str, ...]:
        """The command of its engine that does this with it: `docker stop web`."""
        return (*self.client, *words, self.handle)

    def label(self, name: str) -> str | None:
        """The value of one label."""
        return dict(self.labels).get(name)


class Redirect(Struct, frozen=True, order=True):
    """A NAT rule that captures the ports `first` to `last`, inclusive, of `address` or of all.

    `where` names its chain, and `delete` is the command that removes it. `leads` is where it goes
    in the end: an address, or `port N` of this machine; empty where that is not known. `comment` is
    what its maker wrote beside it; `shared` says that to remove it changes other ports, too.
    """

    transport: Transport
    first: int
    last: int
    target: str
    where: str
    delete: tuple[str, ...]
    address: str = ANY_IPV4
    leads: str = ""
    comment: str = ""
    shared: bool = False

    def captures(self, request: PortRequest) -> bool:
        """Whether what is sent to the requested port would go elsewhere."""
        if not (self.transport is request.transport and self.first <= request.port <= self.last):
            return False
        return self.address == ANY_IPV4 or request.address in {None, self.address, ANY_IPV4}


class EngineState(Struct, frozen=True):
    """One engine endpoint and how it answered.

    `error` is None where it answered in time, else the reason; `absent` marks an endpoint that
    simply does not exist here, which is no trouble at all, and `forbidden` one that this user may
    not use, or should not. `elsewhere` says that its published ports are in another network
    namespace than ours, and why we think so. `chosen` marks the one that the docker command line
    would talk to; the others were found beside it. `client` begins the commands that reach the
    engine. `asked` is False where it was not: what is seen here explains the ports, or `error`
    says why. `uid` is the user who listens at its socket, None where that cannot be told (tcp,
    ssh); `foreign` says that it is another user's, which may explain that user's ports only.
    """

    endpoint: str
    error: str | None = None
    absent: bool = False
    forbidden: bool = False
    elsewhere: str | None = None
    chosen: bool = True
    client: tuple[str, ...] = ("docker",)
    asked: bool = True
    uid: int | None = None
    foreign: bool = False

    @property
    def title(self) -> str:
        """What people call it: `Docker at unix:///var/run/docker.sock`."""
        return f"{'Podman' if 'podman' in self.client[0] else 'Docker'} at {self.endpoint}"

    @property
    def answered(self) -> bool:
        """Whether it said which containers it has."""
        return self.asked and self.error is None

    @property
    def unremarkable(self) -> bool:
        """Whether its trouble is nobody's: nothing there, or merely found and not for this user."""
        return self.absent or (self.forbidden and not self.chosen)

    @property
    def silent(self) -> bool:
        """Whether it might explain anybody's port, and did not answer, even though we may ask."""
        return self.error is not None and not (self.absent or self.forbidden or self.foreign)


class Snapshot(Struct, frozen=True, dict=True):
    """All that was gathered in one scan; every tuple is sorted.

    `processes` holds the owners, their ancestors and the caller's own line, by identity;
    `contained` says that this command runs in a container, as a CI runner does. `ended` are holders
    that were ended in an earlier round, before the port was taken back.
    `blind_spot` says why the owner of a socket may not be among them. `receivers` has, for where
    redirects lead, who is there; `unclear` the addresses of which that cannot be told.
    """

    sockets: tuple[Socket, ...] = ()
    processes: tuple[Process, ...] = ()
    containers: tuple[Container, ...] = ()
    engines: tuple[EngineState, ...] = ()
    redirects: tuple[Redirect, ...] = ()
    own: tuple[ProcessIdentity, ...] = ()
    ended: tuple[Process, ...] = ()
    receivers: tuple[tuple[str, ProcessIdentity], ...] = ()
    unclear: tuple[str, ...] = ()
    own_container: str | None = None
    contained: bool = False
    blind_spot: str = "not visible to you"
    scan: Scan = Scan.COMPLETE
    notes: tuple[str, ...] = ()

    def process(self, identity: ProcessIdentity | None) -> Process | None:
        """The facts about one process, or None where it was hidden or had gone."""
        return self._by_identity.get(identity) if identity else None

    def above(self, process: Process) -> list[Process]:
        """What is known of the processes above one, from its parent up."""
        return [found for each in process.ancestors if (found := self.process(each))]

    @property
    def home(self) -> Container | None:
        """The container that this command runs in, where an engine told of it."""
        return next((each for each in self.containers if each.id == self.own_container), None)

    @property
    def silent_engine(self) -> EngineState | None:
        """One that might explain anybody's port, and did not answer."""
        return next((each for each in self.engines if each.silent), None)

    @property
    def engines_elsewhere(self) -> frozenset[str]:
        """Those whose published ports are in another network namespace: no socket is theirs."""
        return frozenset(each.endpoint for each in self.engines if each.elsewhere)

    @cached_property
    def _by_identity(self) -> dict[ProcessIdentity, Process]:
        return {found.identity: found for found in self.processes}
