"""pm2: applications that its God daemon keeps alive, and sockets that the daemon itself holds.

Suspected from the God daemon above the holder (its title, or its PID file in PM2_HOME), confirmed
by `pm2 jlist` (pm2 6: lib/God.js, lib/Daemon.js, lib/API.js). In cluster mode the daemon itself
listens for its workers (Node's cluster module), so a holder that is the daemon gets an answer from
here in any case: ending it would end every application. `pm2` starts a daemon where it finds none,
so it is asked only where the daemon's own socket answers, and as the daemon's own user.
"""

from __future__ import annotations

import os
import re
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from resolver.ancestry import tool
from resolver.errors import CommandFailedError
from resolver.host import trust
from resolver.host.peer import listener
from resolver.managed import Daemon, ManagedService, classification, read_json, refusal
from resolver.model import Respawn
from resolver.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.model import Classification, Holder, Process, Snapshot
    from resolver.protocols import CommandRunner

_TITLE = r"PM2 v\S+: God Daemon \((.*)\)"
# What `pm2 stop` would take for a file, a pattern, a number or everybody (lib/API.js, _operate)
_PLAIN_NAME = r"[A-Za-z_][\w@-]*"
_SOCKET_SECONDS = 0.5
# An application that ends, and is started again in a moment (constants.js, God.handleExit)
_BETWEEN = {"launching", "waiting restart"}
_YOUNG_SECONDS = 5.0
_NOT_ITS_OWN = r"\[TAILING\]|\.log last \d+ lines:"  # what `pm2 logs` prints over each file


class _GodDaemon(Daemon, frozen=True):
    """A God daemon with its PM2_HOME."""

    home: str = ""

    @property
    def keeper(self) -> str:
        """Without the title that it gives itself."""
        return f"pm2 {self.process.pid}"


class _Environment(Struct, frozen=True):
    """`pm2_env` of an entry."""

    autorestart: bool | str = True
    cron_restart: Any = None
    watch: Any = None
    namespace: str = "default"
    exec_mode: str = ""
    status: str = ""
    pm_uptime: float = 0.0
    unstable_restarts: int = 0
    pm_exec_path: str = ""
    args: Any = ()
    env: dict[str, Any] = {}


class Application(Struct, frozen=True):
    """One process that pm2 manages: an entry of `pm2 jlist`."""

    pm_id: int
    name: str
    pm2_env: _Environment
    pid: int | None = None

    @property
    def clustered(self) -> bool:
        """Whether the daemon itself listens for it."""
        return self.pm2_env.exec_mode == "cluster_mode"

    @property
    def policy(self) -> str:
        """When it is started again; never for `autorestart=false` alone."""
        facts = self.pm2_env
        others = (("cron_restart", facts.cron_restart), ("watch", facts.watch))
        given = [f"{key}={value}" for key, value in others if value]
        return ", ".join((f"autorestart={str(facts.autorestart).lower()}", *given))


def classify(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """An application that pm2 started, and may start again."""
    master = holder.master
    daemon = _suspect(holder, master, snapshot) if master else None
    if daemon is None or master is None:
        return None
    try:
        daemon.check(master)
        own = {identity.pid for identity in snapshot.own}  # to stop what we run in is to end us
        applications = [each for each in _applications(daemon, run) if each.pid not in own]
    except CommandFailedError as error:
        return _suspected(holder, daemon, str(error))
    if daemon.process in holder.processes:
        return _clustered(holder, daemon, applications)
    line = {each.pid for each in master.line}
    mine = [each for each in applications if each.pid in line]
    return _judged(holder, daemon, mine[0], applications) if mine else None


def waiting(holder: Holder, process: Process, run: CommandRunner) -> Iterator[Waiting]:
    """The applications of one daemon that it is about to start again.

    One that is `errored` was given up, and would not take the port.

    Raises:
        CommandFailedError: it could not be asked.
    """
    home = _home_in_title(process)
    if home is None:
        return
    daemon = _daemon(process, os.path.normpath(home))
    daemon.check(holder.master)
    applications = _applications(daemon, run)
    for each in filter(_comes_and_goes, applications):
        facts = each.pm2_env
        words = facts.args if isinstance(facts.args, list) else [facts.args] if facts.args else []
        yield Waiting(
            replace(_service(daemon, each, applications), respawn=Respawn.YES),
            facts.status if facts.status in _BETWEEN else "started again and again",
            " ".join(map(str, (facts.pm_exec_path, *words))),
            tuple(f"{name}={value}" for name, value in facts.env.items() if isinstance(value, str)),
            partial(_log, each.pm_id, daemon, run),
        )


def _comes_and_goes(entry: Application) -> bool:
    """Whether it is between two starts, or has just been started again."""
    facts = entry.pm2_env
    young = time.time() - facts.pm_uptime / 1000 < _YOUNG_SECONDS
    failing = facts.status == "online" and facts.unstable_restarts > 0 and young
    return failing or facts.status in _BETWEEN


def _log(number: int, daemon: _GodDaemon, run: CommandRunner) -> str:
    """The last that an application printed: its errors come on pm2's own stderr."""
    try:
        answer = daemon.ask(run, "logs", str(number), "--nostream", "--raw", "--lines", "30")
    except CommandFailedError:
        return ""
    lines = f"{answer.stdout}\n{answer.stderr}".splitlines()
    return "\n".join(line for line in lines if not re.search(_NOT_ITS_OWN, line))


def _suspect(holder: Holder, master: Process, snapshot: Snapshot) -> _GodDaemon | None:
    """The God daemon that is the holder, or is above it."""
    for process in (*holder.processes, *snapshot.above(master)):
        home = _home(process, master)
        if home is not None:
            return _daemon(process, os.path.normpath(home))
    return None


def _daemon(god: Process, home: str) -> _GodDaemon:
    found = _GodDaemon.of("pm2", god, tool("pm2", god))
    control, account = found.control, found.account
    if account is not None:
        account = replace(account, environment=(("PM2_HOME", home),))
    elif home != os.path.normpath(os.environ.get("PM2_HOME") or os.path.expanduser("~/.pm2")):
        control = ("env", f"PM2_HOME={home}", *control)  # not where `pm2` looks (paths.js)
    return replace(found, control=control, account=account, home=home)


def _home(process: Process, master: Process) -> str | None:
    """The PM2_HOME of a God daemon; None where the process is none."""
    if (titled := _home_in_title(process)) is not None:
        return titled
    home = master.variable("PM2_HOME")  # PM2_DAEMON_TITLE may have given it another title
    if home is None or master.variable("pm_id") is None:
        return None
    pid = trust.text_named(f"{home}/pm2.pid", process.uid).strip()
    return home if pid == str(process.pid) else None


def _home_in_title(process: Process) -> str | None:
    match = re.match(_TITLE, process.command_line)
    return match[1] if match else None


def _applications(daemon: _GodDaemon, run: CommandRunner) -> list[Application]:
    """Everything that the daemon manages.

    Without its socket, `pm2` would start another daemon.

    Raises:
        CommandFailedError: it could not be asked, or its answer was not understood.
    """
    path = f"{daemon.home}/rpc.sock"
    if listener(path, _SOCKET_SECONDS).uid != daemon.process.uid:
        raise CommandFailedError(f"{path} does not answer as pm2's daemon")
    answer = daemon.ask(run, "jlist")
    listing = next((line for line in answer.stdout.splitlines() if line.startswith("[")), "")
    if not listing:
        raise CommandFailedError(refusal("pm2 jlist", answer))
    return read_json("pm2 jlist", listing, list[Application])


def _suspected(holder: Holder, daemon: _GodDaemon, why: str) -> Classification:
    name = next(
        (found.variable("name") for found in holder.processes if found.variable("pm_id")), ""
    )
    what = f"application {name} of pm2" if name else f"{daemon.process}, which is pm2's daemon"
    service = daemon.unknown(
        what,
        "autorestart unknown",
        evidence=(f"pm2 could not be asked: {why}",),
        reason=f"probably {what}, which could not be asked ({why}): pm2 may start it again",
        commands=(daemon.command("list"),),
    )
    return classification(holder, _line(holder, daemon), service)


def _clustered(
    holder: Holder, daemon: _GodDaemon, applications: list[Application]
) -> Classification:
    """The daemon itself listens: for which of its clustered applications, it does not say."""
    clustered = [each for each in applications if each.clustered and each.pid]
    names = {(each.pm2_env.namespace, each.name) for each in clustered}
    evidence = "in cluster mode, pm2's daemon itself holds the socket for its workers"
    if len(names) == 1:
        return _judged(holder, daemon, clustered[0], applications, evidence)
    listed = ", ".join(sorted({each.name for each in clustered})) or "none that runs"
    service = daemon.unknown(
        "one of its clustered applications",
        "autorestart unknown",
        evidence=(evidence, f"pm2 jlist: clustered applications: {listed}"),
        reason=f"{daemon.process} is pm2's daemon, and listens for one of: {listed}",
        commands=tuple(daemon.command("stop", *target(each, applications)) for each in clustered),
    )
    return classification(holder, _line(holder, daemon), service)


def _judged(
    holder: Holder,
    daemon: _GodDaemon,
    mine: Application,
    applications: list[Application],
    *more: str,
) -> Classification:
    service = _service(daemon, mine, applications, *more)
    if more and service.respawn is Respawn.NO:  # the daemon holds the socket: never a signal
        service = replace(service, respawn=Respawn.UNKNOWN)
    return classification(holder, _line(holder, daemon), service)


def _service(
    daemon: _GodDaemon, mine: Application, applications: list[Application], *more: str
) -> ManagedService:
    evidence = f"pm2 jlist: {mine.name} is number {mine.pm_id}, process {mine.pid or 0}"
    return daemon.service(
        mine.name,
        *target(mine, applications),
        title=f"application {mine.name}",
        policy=mine.policy,
        respawn=Respawn.NO if mine.policy == "autorestart=false" else Respawn.YES,
        evidence=(evidence, *more),
    )


def target(mine: Application, applications: list[Application]) -> tuple[str, ...]:
    """What `pm2 stop` is given: the name, or numbers where a name would reach others too.

    A clustered application is stopped with all its workers.
    """
    same = [each for each in applications if each.name == mine.name]
    space = mine.pm2_env.namespace
    family = [each for each in same if each.clustered and each.pm2_env.namespace == space]
    wanted = family if mine.clustered else [mine]
    spaces = {each.pm2_env.namespace for each in applications}
    unique = len(same) == len(wanted) and mine.name not in {*spaces, "all"}
    if unique and re.fullmatch(_PLAIN_NAME, mine.name):
        return (mine.name,)
    return tuple(str(each.pm_id) for each in wanted)


def _line(holder: Holder, daemon: _GodDaemon) -> tuple[Process, ...]:
    return () if daemon.process in holder.processes else holder.processes[:1]
