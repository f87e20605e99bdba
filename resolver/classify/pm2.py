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
from resolver.host.peer import listener_uid
from resolver.managed import ManagedService, ask, classification, read_json, refusal, sudo_for
from resolver.model import Classification, Command, Confidence, Kind, Respawn
from resolver.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.model import Account, Holder, Process, Snapshot
    from resolver.protocols import CommandRunner

_TITLE = r"PM2 v\S+: God Daemon \((.*)\)"
_UNKNOWN_POLICY = "autorestart unknown"
# What `pm2 stop` would take for a file, a pattern, a number or everybody (lib/API.js, _operate)
_PLAIN_NAME = r"[A-Za-z_][\w@-]*"
_SOCKET_SECONDS = 0.5
# An application that ends, and is started again in a moment (constants.js, God.handleExit)
_BETWEEN = {"launching", "waiting restart"}
_YOUNG_SECONDS = 5.0
_NOT_ITS_OWN = r"\[TAILING\]|\.log last \d+ lines:"  # what `pm2 logs` prints over each file


class _GodDaemon(Struct, frozen=True):
    """A God daemon, its PM2_HOME, and the user as whom it is asked, where that is not the caller.

    `program` is `pm2`, or its path where only its node's folder has it.
    """

    process: Process
    home: str
    program: str
    account: Account | None

    @property
    def control(self) -> tuple[str, ...]:
        """The words that `pm2` is called with for it."""
        if self.account is not None or self.home == _default_home():
            return (self.program,)
        return ("env", f"PM2_HOME={self.home}", self.program)

    def line(self, *words: str) -> Command:
        """A command line for people."""
        return Command((*(self.account.prefix if self.account else ()), *self.control, *words))


class _Environment(Struct):
    """`pm2_env` of an entry of `pm2 jlist`."""

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


class _Listed(Struct):
    """An entry of `pm2 jlist`."""

    pm_id: int
    name: str
    pm2_env: _Environment
    pid: int | None = None


class _Application(Struct, frozen=True):
    """One process that pm2 manages."""

    number: int
    pid: int
    name: str
    namespace: str
    policy: str
    comes_back: bool
    clustered: bool


def classify(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """An application that pm2 started, and may start again."""
    daemon = _suspect(holder, snapshot)
    if daemon is None or holder.master is None:
        return None
    try:
        account = trust.account_for(daemon.process, holder.master)
        daemon = replace(daemon, account=_with_home(account, daemon.home))
        own = {identity.pid for identity in snapshot.own}  # to stop what we run in is to end us
        known = map(_application, _listed(daemon, run))
        applications = [each for each in known if each.pid not in own]
    except CommandFailedError as error:
        return _suspected(holder, daemon, str(error))
    if daemon.process.identity in {process.identity for process in holder.processes}:
        return _clustered(holder, daemon, applications)
    line = {holder.master.pid, *(ancestor.pid for ancestor in holder.master.ancestors)}
    mine = [each for each in applications if each.pid in line]
    return _judged(holder, daemon, mine[0], applications) if mine else None


def waiting(holder: Holder, process: Process, run: CommandRunner) -> Iterator[Waiting]:
    """The applications of one daemon that it is about to start again.

    One that is `errored` was given up, and would not take the port.
    """
    home = _home_in_title(process)
    if home is None:
        return
    try:
        account = _with_home(trust.account_for(process, holder.master), home)
        daemon = _GodDaemon(process, os.path.normpath(home), tool("pm2", process), account)
        listed = _listed(daemon, run)
    except CommandFailedError:
        return
    applications = [_application(each) for each in listed]
    for each, mine in zip(listed, applications, strict=True):
        if _comes_and_goes(each.pm2_env):
            yield _waiting(each, daemon, _service(daemon, mine, applications), run)


def _comes_and_goes(facts: _Environment) -> bool:
    """Whether it is between two starts, or has just been started again."""
    young = time.time() - facts.pm_uptime / 1000 < _YOUNG_SECONDS
    failing = facts.status == "online" and facts.unstable_restarts > 0 and young
    return failing or facts.status in _BETWEEN


def _waiting(
    entry: _Listed, daemon: _GodDaemon, service: ManagedService, run: CommandRunner
) -> Waiting:
    facts = entry.pm2_env
    words = facts.args if isinstance(facts.args, list) else [facts.args] if facts.args else []
    return Waiting(
        replace(service, respawn=Respawn.YES),
        facts.status if facts.status in _BETWEEN else "started again and again",
        " ".join(map(str, (facts.pm_exec_path, *words))),
        tuple(f"{name}={value}" for name, value in facts.env.items() if isinstance(value, str)),
        partial(_log, entry.pm_id, daemon, run),
    )


def _log(number: int, daemon: _GodDaemon, run: CommandRunner) -> str:
    """The last that an application printed: its errors come on pm2's own stderr."""
    words = (*daemon.control, "logs", str(number), "--nostream", "--raw", "--lines", "30")
    try:
        answer = ask(run, words, daemon.account)
    except CommandFailedError:
        return ""
    lines = f"{answer.stdout}\n{answer.stderr}".splitlines()
    return "\n".join(line for line in lines if not re.search(_NOT_ITS_OWN, line))


def _suspect(holder: Holder, snapshot: Snapshot) -> _GodDaemon | None:
    """The God daemon that is the holder, or is above it."""
    if holder.master is None:
        return None
    above = (snapshot.process(identity) for identity in holder.master.ancestors)
    for process in (*holder.processes, *filter(None, above)):
        home = _home(process, holder.master)
        if home is not None:
            account = _with_home(trust.owner_account(process.uid), home)
            return _GodDaemon(process, os.path.normpath(home), tool("pm2", process), account)
    return None


def _home(process: Process, master: Process) -> str | None:
    """The PM2_HOME of a God daemon; None where the process is none."""
    if (titled := _home_in_title(process)) is not None:
        return titled
    home = master.variable("PM2_HOME")  # PM2_DAEMON_TITLE may have given it another title
    if home is None or master.variable("pm_id") is None:
        return None
    try:
        pid = trust.read_named(f"{home}/pm2.pid", process.uid).decode().strip()
    except (OSError, UnicodeError):
        return None
    return home if pid == str(process.pid) else None


def _home_in_title(process: Process) -> str | None:
    match = re.match(_TITLE, " ".join(process.command))
    return match[1] if match else None


def _with_home(account: Account | None, home: str) -> Account | None:
    return account and replace(account, environment=(("PM2_HOME", home),))


def _default_home() -> str:
    """Where this user's `pm2` looks without being told (paths.js)."""
    return os.path.normpath(os.environ.get("PM2_HOME") or os.path.expanduser("~/.pm2"))


def _listed(daemon: _GodDaemon, run: CommandRunner) -> list[_Listed]:
    """Everything that the daemon manages, in its own words.

    Raises:
        CommandFailedError: it could not be asked, or its answer was not understood.
    """
    _check_answers(daemon)
    answer = ask(run, (*daemon.control, "jlist"), daemon.account)
    listing = next((line for line in answer.stdout.splitlines() if line.startswith("[")), "")
    if not listing:
        raise CommandFailedError(refusal("pm2 jlist", answer))
    return read_json("pm2 jlist", listing, list[_Listed])


def _check_answers(daemon: _GodDaemon) -> None:
    """The daemon's socket takes connections: without it, `pm2` would start another daemon.

    Raises:
        CommandFailedError: nobody listens there, or another user does.
    """
    path = f"{daemon.home}/rpc.sock"
    if listener_uid(path, _SOCKET_SECONDS) != daemon.process.uid:
        raise CommandFailedError(f"{path} does not answer as pm2's daemon")


def _application(entry: _Listed) -> _Application:
    facts = entry.pm2_env
    restart = str(facts.autorestart).lower()
    others = [
        f"{key}={value}"
        for key, value in (("cron_restart", facts.cron_restart), ("watch", facts.watch))
        if value
    ]
    return _Application(
        number=entry.pm_id,
        pid=entry.pid or 0,
        name=entry.name,
        namespace=facts.namespace,
        policy=", ".join((f"autorestart={restart}", *others)),
        comes_back=restart != "false" or bool(others),
        clustered=facts.exec_mode == "cluster_mode",
    )


def _suspected(holder: Holder, daemon: _GodDaemon, why: str) -> Classification:
    name = next(
        (found.variable("name") for found in holder.processes if found.variable("pm_id")), ""
    )
    what = f"application {name} of pm2" if name else f"{daemon.process}, which is pm2's daemon"
    return Classification(
        holder,
        Kind.SERVICE,
        respawn=Respawn.UNKNOWN,
        confidence=Confidence.SUSPECTED,
        chain=_chain(holder, daemon, what, _UNKNOWN_POLICY),
        evidence=(f"pm2 could not be asked: {why}",),
        reason=f"probably {what}, which could not be asked ({why}): pm2 may start it again",
        commands=(daemon.line("list"),),
    )


def _clustered(
    holder: Holder, daemon: _GodDaemon, applications: list[_Application]
) -> Classification:
    """The daemon itself listens: for which of its clustered applications, it does not say."""
    clustered = [each for each in applications if each.clustered and each.pid]
    names = {(each.namespace, each.name) for each in clustered}
    evidence = "in cluster mode, pm2's daemon itself holds the socket for its workers"
    if len(names) == 1:
        return _judged(holder, daemon, clustered[0], applications, evidence)
    listed = ", ".join(sorted({each.name for each in clustered})) or "none that runs"
    return Classification(
        holder,
        Kind.SERVICE,
        respawn=Respawn.UNKNOWN,
        confidence=Confidence.SUSPECTED,
        chain=_chain(holder, daemon, "one of its clustered applications", _UNKNOWN_POLICY),
        evidence=(evidence, f"pm2 jlist: clustered applications: {listed}"),
        reason=f"{daemon.process} is pm2's daemon, and listens for one of: {listed}",
        commands=tuple(daemon.line("stop", *_target(each, applications)) for each in clustered),
    )


def _judged(
    holder: Holder,
    daemon: _GodDaemon,
    mine: _Application,
    applications: list[_Application],
    *more: str,
) -> Classification:
    service = _service(daemon, mine, applications, *more)
    if more and service.respawn is Respawn.NO:  # the daemon holds the socket: never a signal
        service = replace(service, respawn=Respawn.UNKNOWN)
    return classification(holder, _line(holder, daemon), service)


def _service(
    daemon: _GodDaemon, mine: _Application, applications: list[_Application], *more: str
) -> ManagedService:
    target = _target(mine, applications)
    return ManagedService(
        manager="pm2",
        name=mine.name,
        title=f"application {mine.name}",
        policy=mine.policy,
        respawn=Respawn.YES if mine.comes_back else Respawn.NO,
        keeper=f"pm2 {daemon.process.pid}",
        evidence=(f"pm2 jlist: {mine.name} is number {mine.number}, process {mine.pid}", *more),
        stop=(*daemon.control, "stop", *target),
        start=(*daemon.control, "start", *target),
        prefix=sudo_for(daemon.process),
        account=daemon.account,
    )


def _target(mine: _Application, applications: list[_Application]) -> tuple[str, ...]:
    """What `pm2 stop` is given: the name, or numbers where a name would reach others too.

    A clustered application is stopped with all its workers.
    """
    same = [each for each in applications if each.name == mine.name]
    family = [each for each in same if each.clustered and each.namespace == mine.namespace]
    wanted = family if mine.clustered else [mine]
    spaces = {each.namespace for each in applications}
    unique = len(same) == len(wanted) and mine.name not in {*spaces, "all"}
    if unique and re.fullmatch(_PLAIN_NAME, mine.name):
        return (mine.name,)
    return tuple(str(each.number) for each in wanted)


def _chain(holder: Holder, daemon: _GodDaemon, what: str, policy: str) -> tuple[str, ...]:
    return (*map(str, _line(holder, daemon)), what, policy, f"pm2 {daemon.process.pid}")


def _line(holder: Holder, daemon: _GodDaemon) -> tuple[Process, ...]:
    held = {process.identity for process in holder.processes}
    return () if daemon.process.identity in held else holder.processes[:1]
