"""circus: watchers of a circusd, and sockets that circusd itself holds for them.

Suspected from a circusd that is the nearest supervisor above, confirmed by `circusctl stats`, which
names the PIDs of every watcher; `circusctl options` has the watcher's `respawn` (Circus's own
documentation, "Configuration" and "Commands"). A `[socket:…]` is held by circusd for as long as it
runs, so stopping a watcher does not free it, and ending circusd ends all of its watchers.
"""

from __future__ import annotations

from configparser import ConfigParser, Error
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from resolver.ancestry import Supervised, known_by_name, seen_from, supervised, tool
from resolver.errors import CommandFailedError
from resolver.host import trust
from resolver.managed import ManagedService, ask_json, classification, sudo_for
from resolver.model import Classification, Command, Confidence, Kind, Respawn
from resolver.settings import PATIENCE_SECONDS
from resolver.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.model import Account, Holder, Process, Snapshot
    from resolver.protocols import CommandRunner

_PROGRAMS = frozenset({"circusd"})
_DEFAULT_ENDPOINT = "tcp://127.0.0.1:5555"
_VALUED = {"--log-level", "--log-output", "--logger-config", "--pidfile"}
_WAIT_SECONDS = "90"  # a watcher's graceful_timeout is 30 s, for each of its processes
_ANSWER_SECONDS = "3"
_YOUNG_SECONDS = 10.0  # what ends at once is started again within check_delay, which is 5 s


class _Stats(Struct):
    """`circusctl stats --json`: the processes of each watcher, by their PIDs."""

    infos: dict[str, Any]
    status: Literal["ok"]


class _WatcherSettings(Struct):
    """A watcher's options, as far as they are of interest here."""

    respawn: Any = None
    singleton: Any = None
    numprocesses: Any = 0
    cmd: str = ""
    args: Any = ""
    env: Any = ""


class _WatcherOptions(Struct):
    """`circusctl options --json`."""

    options: _WatcherSettings
    status: Literal["ok"]


class _CircusWatcher(Struct, frozen=True):
    """What circusd says of the watcher that started a process."""

    name: str
    respawn: bool | None
    singleton: bool


def classify(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """A process that circusd started, and may start again; or circusd itself."""
    daemon = next((each for each in holder.processes if known_by_name(each, _PROGRAMS)), None)
    if daemon is not None:
        return _circusd(holder, daemon)
    found = supervised(holder, snapshot, _PROGRAMS)
    if found is None:
        return None
    control = _control(found.supervisor)
    try:
        account = trust.account_for(found.supervisor, holder.master)
        watcher = _ask(control, found, account, run)
        started = f"started process {found.root.pid}"
        service = _confirmed(control, found, watcher, account, started)
    except CommandFailedError as error:
        service = _suspected(control, found, str(error))
    return classification(holder, found.line, service)


def waiting(holder: Holder, daemon: Process, run: CommandRunner) -> Iterator[Waiting]:
    """The watchers of one circusd whose processes end as soon as they are started.

    It starts them again for as long as it runs; what they print, it does not keep.
    """
    if not known_by_name(daemon, _PROGRAMS):
        return
    control = _control(daemon)
    asking = (*control, "--timeout", _ANSWER_SECONDS, "--json")
    try:
        account = trust.account_for(daemon, holder.master)
        _check_configuration(daemon)
        infos = ask_json(run, (*asking, "stats"), _Stats, account).infos
        for name in (each for each in infos if not each.startswith("-")):
            settings = ask_json(run, (*asking, "options", name), _WatcherOptions, account).options
            if _comes_and_goes(settings, infos[name]):
                found = Supervised(daemon, ())
                yield _waiting(control, found, _watcher(name, settings), settings, account)
    except CommandFailedError:
        return


def _comes_and_goes(settings: _WatcherSettings, processes: object) -> bool:
    """Whether it is started again, and none of its processes is older than seconds."""
    if settings.respawn is not True or not settings.numprocesses:
        return False
    facts = processes.values() if isinstance(processes, dict) else ()
    ages = [each.get("age") for each in facts if isinstance(each, dict)]
    return all(isinstance(age, (int, float)) and age < _YOUNG_SECONDS for age in ages)


def _waiting(
    control: tuple[str, ...],
    found: Supervised,
    watcher: _CircusWatcher,
    settings: _WatcherSettings,
    account: Account | None,
) -> Waiting:
    args = settings.args if isinstance(settings.args, list) else [settings.args]
    env = settings.env if isinstance(settings.env, dict) else {}
    service = _confirmed(control, found, watcher, account, "never older than seconds")
    return Waiting(
        service,
        "started again and again",
        " ".join(map(str, (settings.cmd, *args))),
        tuple(f"{name}={value}" for name, value in env.items()),
    )


def _circusd(holder: Holder, daemon: Process) -> Classification:
    """It holds its endpoints, and the sockets that its watchers share."""
    account = trust.owner_account(daemon.uid)
    quit_it = Command(
        (*(account.prefix if account else ()), *_control(daemon), "quit"),
        "ends circusd with all of its watchers",
    )
    return Classification(
        holder,
        Kind.PROTECTED,
        respawn=Respawn.UNKNOWN,
        chain=(str(daemon),),
        evidence=("circusd holds its endpoints and the [socket:…] sections of its file itself",),
        reason=f"{daemon} supervises others: all of its watchers end with it",
        commands=(quit_it,),
    )


def _control(daemon: Process) -> tuple[str, ...]:
    return (tool("circusctl", daemon), "--endpoint", endpoint(daemon))


def endpoint(daemon: Process) -> str:
    """Where circusd takes commands: `endpoint` of its file's section `circus`, or the default."""
    path = _configuration(daemon)
    settings = ConfigParser(interpolation=None, strict=False)
    try:
        if path is not None:
            settings.read_string(trust.read_named(path, daemon.uid).decode("utf-8"))
    except (Error, OSError, UnicodeError):
        return _DEFAULT_ENDPOINT
    return settings.get("circus", "endpoint", fallback=_DEFAULT_ENDPOINT).strip()


def _configuration(daemon: Process) -> str | None:
    """The one positional argument of circusd."""
    words = list(daemon.command)
    script = next((at for at, word in enumerate(words[:3]) if _script(word)), None)
    if script is None:
        return None
    previous = ""
    for word in words[script + 1 :]:
        if not word.startswith("-") and previous not in _VALUED:
            return seen_from(daemon.cwd or "/", word)
        previous = word
    return None


def _script(word: str) -> bool:
    return word.rsplit("/", 1)[-1] in {"circusd", "circus.circusd"}


def _ask(
    control: tuple[str, ...], found: Supervised, account: Account | None, run: CommandRunner
) -> _CircusWatcher:
    """The watcher that started the holder.

    Raises:
        CommandFailedError: circusd did not say, or others could have told us where it listens.
    """
    _check_configuration(found.supervisor)
    control = (*control, "--timeout", _ANSWER_SECONDS, "--json")
    name = watcher_of(found.root.pid, ask_json(run, (*control, "stats"), _Stats, account).infos)
    if name is None:
        raise CommandFailedError(f"circusctl stats does not know process {found.root.pid}")
    settings = ask_json(run, (*control, "options", name), _WatcherOptions, account).options
    return _watcher(name, settings)


def _check_configuration(daemon: Process) -> None:
    """The file that says where circusd listens is in nobody else's hands.

    Raises:
        UntrustedError: it is not.
    """
    if daemon.uid in trust.trusted_users() and (path := _configuration(daemon)):
        trust.check_file(path)


def _watcher(name: str, settings: _WatcherSettings) -> _CircusWatcher:
    return _CircusWatcher(
        name=name,
        respawn=settings.respawn if isinstance(settings.respawn, bool) else None,
        singleton=settings.singleton is True,
    )


def watcher_of(pid: int, infos: dict[str, Any]) -> str | None:
    """The watcher in `{NAME: {PID: …}}` that has this process; None where none has."""
    for name, processes in infos.items():
        if isinstance(processes, dict) and str(pid) in processes:
            return name
    return None


def _confirmed(
    control: tuple[str, ...],
    found: Supervised,
    watcher: _CircusWatcher,
    account: Account | None,
    evidence: str,
) -> ManagedService:
    respawn = {True: Respawn.YES, False: Respawn.NO, None: Respawn.UNKNOWN}[watcher.respawn]
    policy = "respawn unknown"
    if watcher.respawn is not None:
        policy = f"respawn={str(watcher.respawn).lower()}"
    return ManagedService(
        manager="circus",
        name=watcher.name,
        title=f"service {watcher.name}",
        policy=policy + (", singleton" if watcher.singleton else ""),
        respawn=respawn,
        keeper=str(found.supervisor),
        evidence=(f"circusctl stats: watcher {watcher.name} {evidence}",),
        stop=(*control, "--timeout", _WAIT_SECONDS, "stop", "--waiting", watcher.name),
        start=(*control, "start", watcher.name),
        prefix=sudo_for(found.supervisor),
        account=account,
        patience_seconds=PATIENCE_SECONDS,
    )


def _suspected(control: tuple[str, ...], found: Supervised, why: str) -> ManagedService:
    """Which watcher it is, is not known: there is nothing to stop but circusd itself."""
    account = trust.owner_account(found.supervisor.uid)
    status = Command((*(account.prefix if account else ()), *control, "status"), "names them")
    return ManagedService(
        manager="circus",
        name="of an unknown watcher",
        title="service of an unknown watcher",
        policy="respawn unknown",
        respawn=Respawn.UNKNOWN,
        confidence=Confidence.SUSPECTED,
        keeper=str(found.supervisor),
        evidence=("its nearest supervisor is a circusd", f"circus could not be asked: {why}"),
        reason="probably service of an unknown watcher of circus (respawn unknown)",
        commands=(status,),
    )
