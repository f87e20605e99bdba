"""runit, s6 and daemontools: services of a runsv, an s6-supervise or a supervise.

Suspected from one of these as the nearest supervisor above, confirmed by its own status command on
the service directory (runsv(8), sv(8); skarnet.org/software/s6: s6-supervise, s6-svstat, s6-svc;
cr.yp.to/daemontools: supervise, svstat, svc). Whether a service is started again is the state that
was asked for last; the file `down` only says what happens when the supervisor starts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from resolver.ancestry import service_directory, service_name, supervised, tool
from resolver.errors import CommandFailedError
from resolver.host import trust
from resolver.managed import Daemon, ManagedService, classification
from resolver.model import Confidence, Respawn, StopInquiry
from resolver.programs import known_as
from resolver.settings import PATIENCE_SECONDS
from resolver.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.model import Classification, Completed, Holder, Pid, Process, Snapshot
    from resolver.protocols import CommandRunner

# The wanted state in daemontools' supervise/status: `u`, `d`, or 0 after `svc -o` (svstat.c does
# not tell a service that was started once from one that is started again)
_WANTED_BYTE = 17
_WANTED = {b"u": True, b"d": False, b"\0": False}
_AGE = r"\b(\d+) ?s(?:econds?)?\b"
_YOUNG = 3  # seconds


class ServiceState(Struct, frozen=True):
    """What a supervisor says of one process of a service: the program's, or its log's.

    `want_up` is None where that is not known. `words` are the supervisor's own.
    """

    folder: str
    pid: int
    want_up: bool | None
    words: str


class SuperviseFamily(Struct, frozen=True):
    """One kind of supervisor, whose program is `program`.

    `status` prints the state of a service directory and `control` changes it; `stop`, `up` and
    `once` are what `control` is given before the directory. `running` matches what is printed of
    each process that runs; `in_file` says that the wanted state is in a file, and not printed.
    `down` matches what is printed of a service that has stopped, where `stop` does not wait for it.
    """

    name: str
    program: str
    status: tuple[str, ...]
    control: str
    stop: tuple[str, ...]
    up: tuple[str, ...]
    once: tuple[str, ...]
    running: str
    down: str = ""
    in_file: bool = False

    def states(self, said: str, folder: str) -> tuple[ServiceState, ...]:
        """The processes that run; runsv has a log service of its own, `DIR/log` for `sv`."""
        return tuple(
            ServiceState(
                folder=f"{folder}/log" if match["name"] == "log" else folder,
                pid=int(match["pid"]),
                want_up=None if self.in_file else "want down" not in match["words"],
                words=match["words"].strip(", "),
            )
            for match in re.finditer(self.running, said)
        )


FAMILIES = (
    SuperviseFamily(
        "runit",
        "runsv",
        status=("sv", "status"),
        control="sv",
        stop=("-w", "60", "stop"),  # seconds: `sv stop` waits for it
        up=("up",),
        once=("once",),
        # `run: DIR: (pid 7) 1s, want down; run: log: (pid 6) 1s`
        running=r"run: (?P<name>.+?): \(pid (?P<pid>\d+)\) \d+s(?P<words>[^;\n]*)",
    ),
    SuperviseFamily(
        "s6",
        "s6-supervise",
        status=("s6-svstat",),
        control="s6-svc",
        stop=("-wD", "-T", "60000", "-d"),  # until it is really down, its finish script included
        up=("-u",),
        once=("-o",),
        # `up (pid 7) 1 seconds, normally down, want down`, newer with `pgid`
        running=r"\A(?P<name>)up \(pid (?P<pid>\d+)[^)]*\) \d+ seconds?(?P<words>.*)",
    ),
    SuperviseFamily(
        "daemontools",
        "supervise",
        status=("svstat",),
        control="svc",
        stop=("-d",),
        up=("-u",),
        once=("-o",),
        # `DIR: up (pid 7) 1 seconds, normally down`
        running=r"\A(?P<name>.*?): (?P<words>up \(pid (?P<pid>\d+)\) \d+ seconds.*)",
        # a service that has just been started runs for a second before `svc -d` is heard
        down=r"\A.*?: down \d+ seconds",
        in_file=True,
    ),
)


class _Supervisor(Struct, frozen=True):
    """A supervisor that runs, and its service directory; None where that is hidden."""

    family: SuperviseFamily
    process: Process
    folder: str | None

    def status(self, about: Process | None, run: CommandRunner) -> Completed:
        """What its status command says of the directory.

        Raises:
            CommandFailedError: it could not be asked.
        """
        daemon = Daemon.of(self.family.name, self.process, *self._asking, file=self.folder)
        daemon.check(about)
        if self.folder is None:
            raise CommandFailedError("the service directory is hidden from this user")
        return daemon.ask(run, self.folder)

    @property
    def _asking(self) -> tuple[str, ...]:
        program, *words = self.family.status
        return (tool(program, self.process), *words)

    def service(self, up: tuple[str, ...] = (), **facts: Any) -> ManagedService:  # noqa: ANN401 - its fields
        """Its manager's business; `up` is what starts it again, where that is not as usual."""
        family, folder, name = self.family, self.folder, service_name(self.folder)
        control = tool(family.control, self.process)
        service = Daemon.of(family.name, self.process, control).service(
            name,
            title=f"service {name}",
            stop=((control, *family.stop, folder),) if folder else (),
            start=((control, *(up or family.up), folder),) if folder else (),
            patience_seconds=PATIENCE_SECONDS,
            inquiry=StopInquiry((*self._asking, folder or ""), family.down)
            if family.down
            else None,
            **facts,
        )
        doubt = "" if service.confidence is Confidence.CONFIRMED else "probably "
        reason = f"{doubt}{service.title} of {family.name} ({service.policy})"
        return replace(service, reason=reason)


def classify(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """A service that one of them started, and may start again."""
    for family in FAMILIES:
        found = supervised(holder, snapshot, frozenset({family.program}))
        if found is not None:
            folder = service_directory(found, snapshot)
            supervisor = _Supervisor(family, found.supervisor, folder)
            try:
                service = _confirmed(supervisor, found.root.pid, holder.master, run)
            except CommandFailedError as error:
                service = _suspected(supervisor, str(error))
            return classification(holder, found.line, service)
    return None


def waiting(holder: Holder, process: Process, run: CommandRunner) -> Iterator[Waiting]:
    """The service of one supervisor, where it has just been started again, or is about to be.

    None of them backs off by more than a second or so: what fails is always young.

    Raises:
        CommandFailedError: it could not be asked.
    """
    known = (each for each in FAMILIES if known_as(process, frozenset({each.program})))
    family, folder = next(known, None), process.cwd
    above = holder.master.ancestors if holder.master else ()
    if family is None or folder is None or process.identity in above:  # then it has the port
        return
    supervisor = _Supervisor(family, process, folder)
    said = supervisor.status(holder.master, run).stdout.strip()
    script = trust.text_named(f"{folder}/run", process.uid)
    age = re.search(_AGE, said)
    if age is None or int(age[1]) > _YOUNG or "want down" in said:
        return
    evidence = (f"{' '.join(family.status)}: {said}",)
    service = supervisor.service(policy="want up", respawn=Respawn.YES, evidence=evidence)
    started = next((line for line in reversed(script.splitlines()) if line.strip()), "")
    settings = tuple(line.strip().removeprefix("export ") for line in script.splitlines())
    yield Waiting(service, "started again and again", started, settings)


def _confirmed(
    supervisor: _Supervisor, pid: Pid, about: Process | None, run: CommandRunner
) -> ManagedService:
    """The service of the process that this supervisor started.

    Raises:
        CommandFailedError: it could not be asked, or speaks of other processes.
    """
    family, answer = supervisor.family, supervisor.status(about, run)
    status, states = " ".join(family.status), family.states(answer.stdout, supervisor.folder or "")
    state = next((each for each in states if each.pid == pid), None)
    if state is None:
        said = (answer.stdout.strip() or answer.stderr.strip()).partition("\n")[0]
        raise CommandFailedError(f"{status} said: {said}")
    evidence = [f"{status} {state.folder}: pid {state.pid}, {state.words or 'want up'}"]
    if "normally down" in state.words:
        evidence.append(f"{state.folder}/down exists: it is not started at boot")
    want_up = state.want_up
    if family.in_file:
        want_up = _WANTED.get(wanted_state(state.folder, supervisor.process.uid))
    facts: dict[bool | None, dict[str, Any]] = {
        True: {"policy": "want up", "respawn": Respawn.YES},
        False: {
            "policy": f"want down, as after `{' '.join((family.control, *family.once))}`",
            "respawn": Respawn.NO,
            "up": family.once,
        },
        None: {"confidence": Confidence.SUSPECTED},
    }
    mine = replace(supervisor, folder=state.folder)
    return mine.service(evidence=tuple(evidence), **facts[want_up])


def wanted_state(folder: str, uid: int | None) -> bytes:
    """The wanted state of a daemontools service; empty where this user may not read it."""
    try:
        status = trust.read_named(f"{folder}/supervise/status", uid)
    except OSError:
        return b""
    return status[_WANTED_BYTE : _WANTED_BYTE + 1]


def _suspected(supervisor: _Supervisor, why: str) -> ManagedService:
    evidence = (
        f"its nearest supervisor is {supervisor.process}",
        f"{supervisor.family.name} could not be asked: {why}",
    )
    return supervisor.service(confidence=Confidence.SUSPECTED, evidence=evidence)
