"""circus: watchers of a circusd, and sockets that circusd itself holds for them.

Suspected from a circusd that is the nearest supervisor above, confirmed by `circusctl stats`, which
names the PIDs of every watcher; `circusctl options` has the watcher's `respawn` (Circus's own
documentation, "Configuration" and "Commands"). A `[socket:…]` is held by circusd for as long as it
runs, so stopping a watcher does not free it, and ending circusd ends all of its watchers.
"""

from __future__ import annotations

from configparser import ConfigParser, Error
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from msgspec import Struct

from resolver.ancestry import Supervised, seen_from, supervised, tool
from resolver.errors import CommandFailedError
from resolver.host import trust
from resolver.managed import Daemon, ManagedService, ask_json, classification
from resolver.model import Classification, Kind, Respawn
from resolver.programs import known_as
from resolver.settings import PATIENCE_SECONDS
from resolver.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.model import Holder, Process, Snapshot
    from resolver.protocols import CommandRunner

_PROGRAMS = frozenset({"circusd"})
_SCRIPTS = {"circusd", "circus.circusd"}
_DEFAULT_ENDPOINT = "tcp://127.0.0.1:5555"
_VALUED = {"--log-level", "--log-output", "--logger-config", "--pidfile"}
_WAIT_SECONDS = "90"  # a watcher's graceful_timeout is 30 s, for each of its processes
_BUSY = r"arbiter is already running \w+ command"  # circus/util.py, synchronized
_ANSWER_SECONDS = "3"
_YOUNG_SECONDS = 10.0  # what ends at once is started again within check_delay, which is 5 s
_Answer = TypeVar("_Answer")
_RESPAWNS = {True: Respawn.YES, False: Respawn.NO, None: Respawn.UNKNOWN}


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


def classify(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """A process that circusd started, and may start again; or circusd itself."""
    daemon = next((each for each in holder.processes if known_as(each, _PROGRAMS)), None)
    if daemon is not None:
        return _circusd(holder, daemon)
    found = supervised(holder, snapshot, _PROGRAMS)
    if found is None:
        return None
    circusd = _daemon(found.supervisor)
    try:
        circusd.check(holder.master)
        service = _confirmed(circusd, found, run)
    except CommandFailedError as error:
        service = _suspected(circusd, str(error))
    return classification(holder, found.line, service)


def waiting(holder: Holder, daemon: Process, run: CommandRunner) -> Iterator[Waiting]:
    """The watchers of one circusd whose processes end as soon as they are started.

    It starts them again for as long as it runs; what they print, it does not keep.

    Raises:
        CommandFailedError: it could not be asked.
    """
    circusd = _daemon(daemon)
    circusd.check(holder.master)
    infos = _asked(circusd, run, _Stats, "stats").infos
    for name in (each for each in infos if not each.startswith("-")):
        settings = _asked(circusd, run, _WatcherOptions, "options", name).options
        if _comes_and_goes(settings, infos[name]):
            args = settings.args if isinstance(settings.args, list) else [settings.args]
            env = settings.env if isinstance(settings.env, dict) else {}
            yield Waiting(
                _service(circusd, name, settings, "never older than seconds"),
                "started again and again",
                " ".join(map(str, (settings.cmd, *args))),
                tuple(f"{key}={value}" for key, value in env.items()),
            )


def _comes_and_goes(settings: _WatcherSettings, processes: object) -> bool:
    """Whether it is started again, and none of its processes is older than seconds."""
    if settings.respawn is not True or not settings.numprocesses:
        return False
    facts = processes.values() if isinstance(processes, dict) else ()
    ages = [each.get("age") for each in facts if isinstance(each, dict)]
    return all(isinstance(age, (int, float)) and age < _YOUNG_SECONDS for age in ages)


def _daemon(circusd: Process) -> Daemon:
    control = (tool("circusctl", circusd), "--endpoint", endpoint(circusd))
    return Daemon.of("circus", circusd, *control, file=_configuration(circusd))


def _circusd(holder: Holder, circusd: Process) -> Classification:
    """It holds its endpoints, and the sockets that its watchers share."""
    comment = "ends circusd with all of its watchers"
    return Classification(
        holder,
        Kind.PROTECTED,
        respawn=Respawn.UNKNOWN,
        chain=(str(circusd),),
        evidence=("circusd holds its endpoints and the [socket:…] sections of its file itself",),
        reason=f"{circusd} supervises others: all of its watchers end with it",
        commands=(_daemon(circusd).command("quit", comment=comment),),
    )


def endpoint(daemon: Process) -> str:
    """Where circusd takes commands: `endpoint` of its file's section `circus`, or the default."""
    path = _configuration(daemon)
    settings = ConfigParser(interpolation=None, strict=False)
    try:
        settings.read_string(trust.text_named(path or "", daemon.uid))
    except Error:
        return _DEFAULT_ENDPOINT
    return settings.get("circus", "endpoint", fallback=_DEFAULT_ENDPOINT).strip()


def _configuration(daemon: Process) -> str | None:
    """The one positional argument of circusd."""
    words = daemon.command
    scripts = (at for at, word in enumerate(words[:3]) if word.rsplit("/", 1)[-1] in _SCRIPTS)
    previous = ""
    for word in words[next(scripts, len(words)) + 1 :]:
        if not word.startswith("-") and previous not in _VALUED:
            return seen_from(daemon.cwd or "/", word)
        previous = word
    return None


def _asked(circusd: Daemon, run: CommandRunner, shape: type[_Answer], *words: str) -> _Answer:
    """What circusctl prints of this.

    Raises:
        CommandFailedError: circusd did not say.
    """
    argv = (*circusd.control, "--timeout", _ANSWER_SECONDS, "--json", *words)
    return ask_json(run, argv, shape, circusd.account)


def _confirmed(circusd: Daemon, found: Supervised, run: CommandRunner) -> ManagedService:
    """The watcher that started the holder.

    Raises:
        CommandFailedError: circusd did not say.
    """
    pid = found.root.pid
    name = watcher_of(pid, _asked(circusd, run, _Stats, "stats").infos)
    if name is None:
        raise CommandFailedError(f"circusctl stats does not know process {pid}")
    settings = _asked(circusd, run, _WatcherOptions, "options", name).options
    return _service(circusd, name, settings, f"started process {pid}")


def _service(
    circusd: Daemon, name: str, settings: _WatcherSettings, evidence: str
) -> ManagedService:
    respawn = settings.respawn if isinstance(settings.respawn, bool) else None
    policy = "respawn unknown" if respawn is None else f"respawn={str(respawn).lower()}"
    return circusd.service(
        name,
        title=f"service {name}",
        policy=policy + (", singleton" if settings.singleton is True else ""),
        respawn=_RESPAWNS[respawn],
        evidence=(f"circusctl stats: watcher {name} {evidence}",),
        stop=((*circusd.control, "--timeout", _WAIT_SECONDS, "stop", "--waiting", name),),
        patience_seconds=PATIENCE_SECONDS,
        busy=_BUSY,
    )


def watcher_of(pid: int, infos: dict[str, Any]) -> str | None:
    """The watcher in `{NAME: {PID: …}}` that has this process; None where none has."""
    for name, processes in infos.items():
        if isinstance(processes, dict) and str(pid) in processes:
            return name
    return None


def _suspected(circusd: Daemon, why: str) -> ManagedService:
    """Which watcher it is, is not known: there is nothing to stop but circusd itself."""
    return circusd.unknown(
        "service of an unknown watcher",
        policy="respawn unknown",
        evidence=("its nearest supervisor is a circusd", f"circus could not be asked: {why}"),
        reason="probably service of an unknown watcher of circus (respawn unknown)",
        commands=(circusd.command("status", comment="names them"),),
    )
