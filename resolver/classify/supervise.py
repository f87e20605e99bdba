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

from resolver.ancestry import (
    Supervised,
    service_directory,
    service_name,
    supervised,
    tool,
)
from resolver.errors import CommandFailedError
from resolver.host import trust
from resolver.managed import ManagedService, ask, classification, sudo_for
from resolver.model import Confidence, Respawn
from resolver.programs import known_as
from resolver.settings import PATIENCE_SECONDS
from resolver.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.model import Account, Classification, Holder, Process, Snapshot
    from resolver.protocols import CommandRunner

_RUNSV_STATUS = r"run: (?P<name>.+?): \(pid (?P<pid>\d+)\) \d+s(?P<words>[^;\n]*)"
_S6_STATUS = r"up \(pid (?P<pid>\d+)[^)]*\) \d+ seconds?(?P<words>.*)"
_DAEMONTOOLS_STATUS = r"up \(pid (\d+)\) \d+ seconds"
# The wanted state in daemontools' supervise/status: `u`, `d`, or 0 after `svc -o` (svstat.c does
# not tell a service that was started once from one that is started again)
_WANTED_BYTE = 17
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


class _SuperviseFamily(Struct, frozen=True):
    """One kind of supervisor.

    `status` prints the state of a service directory and `control` changes it; `stop`, `up` and
    `once` are what `control` is given before the directory. `read` finds the processes that run.
    """

    name: str
    program: str
    status: tuple[str, ...]
    control: str
    stop: tuple[str, ...]
    up: tuple[str, ...]
    once: tuple[str, ...]
    read: Callable[[str, str], tuple[ServiceState, ...]]


def runit_states(said: str, folder: str) -> tuple[ServiceState, ...]:
    """The processes in `run: DIR: (pid 7) 1s, want down; run: log: (pid 6) 1s`.

    runsv runs a log service of its own, which `sv` knows as `DIR/log`.
    """
    return tuple(
        ServiceState(
            folder=f"{folder}/log" if match["name"] == "log" else folder,
            pid=int(match["pid"]),
            want_up="want down" not in match["words"],
            words=match["words"].strip(", "),
        )
        for match in re.finditer(_RUNSV_STATUS, said)
    )


def s6_states(said: str, folder: str) -> tuple[ServiceState, ...]:
    """The process in `up (pid 7) 1 seconds, normally down, want down`, newer with `pgid`."""
    match = re.match(_S6_STATUS, said)
    if match is None:
        return ()
    words = match["words"].strip(", ")
    return (ServiceState(folder, int(match["pid"]), "want down" not in words, words),)


def daemontools_states(said: str, folder: str) -> tuple[ServiceState, ...]:
    """The process in `DIR: up (pid 7) 1 seconds, normally down`; the wanted state is in a file."""
    words = said.strip().removeprefix(f"{folder}: ")
    match = re.match(_DAEMONTOOLS_STATUS, words)
    return (ServiceState(folder, int(match[1]), None, words),) if match else ()


_FAMILIES = (
    _SuperviseFamily(
        "runit",
        "runsv",
        status=("sv", "status"),
        control="sv",
        stop=("-w", "60", "stop"),  # seconds: `sv stop` waits for it
        up=("up",),
        once=("once",),
        read=runit_states,
    ),
    _SuperviseFamily(
        "s6",
        "s6-supervise",
        status=("s6-svstat",),
        control="s6-svc",
        stop=("-wD", "-T", "60000", "-d"),  # until it is really down, its finish script included
        up=("-u",),
        once=("-o",),
        read=s6_states,
    ),
    _SuperviseFamily(
        "daemontools",
        "supervise",
        status=("svstat",),
        control="svc",
        stop=("-d",),
        up=("-u",),
        once=("-o",),
        read=daemontools_states,
    ),
)


def classify(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """A service that one of them started, and may start again."""
    for family in _FAMILIES:
        found = supervised(holder, snapshot, frozenset({family.program}))
        if found is not None:
            return _classification(holder, found, family, snapshot, run)
    return None


def waiting(holder: Holder, supervisor: Process, run: CommandRunner) -> Iterator[Waiting]:
    """The service of one supervisor, where it has just been started again, or is about to be.

    None of them backs off by more than a second or so: what fails is always young.
    """
    family = next(
        (each for each in _FAMILIES if known_as(supervisor, frozenset({each.program}))), None
    )
    folder = supervisor.cwd
    above = holder.master.ancestors if holder.master else ()
    if family is None or folder is None or supervisor.identity in above:  # then it has the port
        return
    try:
        account = trust.account_for(supervisor, holder.master)
        if account is None:
            trust.check_file(folder)
        program, *words = family.status
        said = ask(run, (tool(program, supervisor), *words, folder), account).stdout.strip()
        script = trust.read_named(f"{folder}/run", supervisor.uid).decode(errors="replace")
    except (CommandFailedError, OSError):
        return
    age = re.search(_AGE, said)
    if age is None or int(age[1]) > _YOUNG or "want down" in said:
        return
    control = tool(family.control, supervisor)
    service = _service(
        family,
        Supervised(supervisor, ()),
        folder,
        policy="want up",
        respawn=Respawn.YES,
        confidence=Confidence.CONFIRMED,
        evidence=(f"{' '.join(family.status)}: {said}",),
        stop=(control, *family.stop, folder),
        start=(control, *family.up, folder),
        account=account,
    )
    started = next((line for line in reversed(script.splitlines()) if line.strip()), "")
    settings = tuple(line.strip().removeprefix("export ") for line in script.splitlines())
    yield Waiting(service, "started again and again", started, settings)


def _classification(
    holder: Holder,
    found: Supervised,
    family: _SuperviseFamily,
    snapshot: Snapshot,
    run: CommandRunner,
) -> Classification:
    folder = service_directory(found, snapshot)
    try:
        account = trust.account_for(found.supervisor, holder.master)
        service = _confirmed(family, found, _ask(family, folder, found, account, run), account)
    except CommandFailedError as error:
        service = _suspected(family, folder, found, str(error))
    return classification(holder, found.line, service)


def _ask(
    family: _SuperviseFamily,
    folder: str | None,
    found: Supervised,
    account: Account | None,
    run: CommandRunner,
) -> ServiceState:
    """The state of the process that this supervisor started.

    Raises:
        CommandFailedError: it could not be asked, or speaks of other processes.
    """
    if folder is None:
        raise CommandFailedError("the service directory is hidden from this user")
    if account is None:
        trust.check_file(folder)
    program, *words = family.status
    argv = (tool(program, found.supervisor), *words, folder)
    answer = ask(run, argv, account)
    states = family.read(answer.stdout, folder)
    mine = next((state for state in states if state.pid == found.root.pid), None)
    if mine is None:
        said = (answer.stdout.strip() or answer.stderr.strip()).partition("\n")[0]
        raise CommandFailedError(f"{' '.join(family.status)} said: {said}")
    if mine.want_up is not None:
        return mine
    wanted = wanted_state(folder, found.supervisor.uid)
    return ServiceState(
        folder, mine.pid, {b"u": True, b"d": False, b"\0": False}.get(wanted), mine.words
    )


def wanted_state(folder: str, uid: int | None) -> bytes:
    """The wanted state of a daemontools service; empty where this user may not read it."""
    try:
        status = trust.read_named(f"{folder}/supervise/status", uid)
    except OSError:
        return b""
    return status[_WANTED_BYTE : _WANTED_BYTE + 1]


def _confirmed(
    family: _SuperviseFamily, found: Supervised, state: ServiceState, account: Account | None
) -> ManagedService:
    evidence = [
        f"{' '.join(family.status)} {state.folder}: pid {state.pid}, {state.words or 'want up'}"
    ]
    if "normally down" in state.words:
        evidence.append(f"{state.folder}/down exists: it is not started at boot")
    policy, respawn = {
        True: ("want up", Respawn.YES),
        False: (f"want down, as after `{' '.join((family.control, *family.once))}`", Respawn.NO),
        None: ("restart policy unknown", Respawn.UNKNOWN),
    }[state.want_up]
    control = tool(family.control, found.supervisor)
    start = family.once if state.want_up is False else family.up
    confidence = Confidence.SUSPECTED if state.want_up is None else Confidence.CONFIRMED
    return _service(
        family,
        found,
        state.folder,
        policy=policy,
        respawn=respawn,
        confidence=confidence,
        evidence=tuple(evidence),
        stop=(control, *family.stop, state.folder),
        start=(control, *start, state.folder),
        account=account,
    )


def _suspected(
    family: _SuperviseFamily, folder: str | None, found: Supervised, why: str
) -> ManagedService:
    control = tool(family.control, found.supervisor)
    return _service(
        family,
        found,
        folder,
        policy="restart policy unknown",
        respawn=Respawn.UNKNOWN,
        confidence=Confidence.SUSPECTED,
        evidence=(
            f"its nearest supervisor is {found.supervisor}",
            f"{family.name} could not be asked: {why}",
        ),
        stop=(control, *family.stop, folder) if folder else (),
        start=(control, *family.up, folder) if folder else (),
        account=trust.owner_account(found.supervisor.uid),
    )


def _service(
    family: _SuperviseFamily,
    found: Supervised,
    folder: str | None,
    *,
    policy: str,
    confidence: Confidence,
    **facts: Any,  # noqa: ANN401 - its fields
) -> ManagedService:
    title = f"service {service_name(folder)}"
    doubt = "" if confidence is Confidence.CONFIRMED else "probably "
    return ManagedService(
        manager=family.name,
        name=service_name(folder),
        title=title,
        policy=policy,
        confidence=confidence,
        keeper=str(found.supervisor),
        prefix=sudo_for(found.supervisor),
        patience_seconds=PATIENCE_SECONDS,
        reason=f"{doubt}{title} of {family.name} ({policy})",
        **facts,
    )
