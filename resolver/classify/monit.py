"""monit: processes that monit watches, and starts again at one of its next checks.

monit is nobody's parent: it knows a process by its PID file or by a pattern. Suspected where a
monit runs here (or the environment has its mark), confirmed by `monit status`, which names the PID,
and by `monit -t -v`, which prints the control file as monit reads it (monit(1), "SERVICE METHODS",
"EXISTENCE TESTS", "SERVICE MONITORING MODE"). It is asked before all others, since whatever another
manager stops, monit starts again. What monit would not start again is left to the others.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

import psutil
from msgspec import Struct
from msgspec.structs import replace

from resolver.ancestry import own_line, seen_from
from resolver.errors import CommandFailedError, StateChangedError
from resolver.host import trust
from resolver.host.identity import identify
from resolver.host.processes import pids_of
from resolver.managed import ManagedService, ask_text, classification, sudo_for
from resolver.model import Command, Confidence, Pid, Process, Respawn
from resolver.settings import PATIENCE_SECONDS
from resolver.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.model import Account, Classification, Holder, Snapshot
    from resolver.protocols import CommandRunner

_MARK = "MONIT_SERVICE"  # in the environment of what monit has started
_HEADING = r"^(?:Process '(?P<status>.*)'|Process Name\s*= (?P<file>.*))$"
_OTHER_HEADING = r"^\S"
_FACT = r"^ {1,2}(?P<key>\S+(?: \S+)*?)\s*(?:=|\s)\s+(?P<value>\S.*)$"
_STARTS = ("restart", "start")
_YOUNG = "0m"  # the uptime of what has run for less than a minute
_TESTED = r"\bfailed \[[^]]*\]:(\d+)\b"


class _MonitDaemon(Struct, frozen=True):
    """A running monit, its control file if it was given one, and as whom it is asked."""

    process: Process
    file: str | None
    account: Account | None = None

    @property
    def control(self) -> tuple[str, ...]:
        """The words that reach it."""
        return ("monit", *(("-c", self.file) if self.file else ()))


class _Check(Struct, frozen=True):
    """A `check process` of monit's, with what `monit status` and `monit -t -v` say of it."""

    name: str
    daemon: _MonitDaemon
    status: dict[str, str]
    settings: dict[str, str]
    evidence: str

    @property
    def action(self) -> str:
        """What monit does where the process does not exist; monit(1): restart, if not told."""
        said = self.settings.get("Existence", "if does not exist then restart")
        return said.partition(" then ")[2].partition(" else ")[0].strip()

    @property
    def watched(self) -> bool:
        """Whether monit does anything about it: it is monitored, and not passively."""
        active = self.status.get("monitoring mode", "active") != "passive"
        return active and not self.status.get("monitoring status", "").startswith("Not")


def classify(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """A process that monit would start again; None where it would not, whoever else might."""
    line = own_line(holder, snapshot)
    mark = line[0].variable(_MARK) if line else None
    if not line or (mark is None and not trust.is_installed("monit")):
        return None
    if any(process.identity in snapshot.own for process in line):
        return None
    unsure: list[Classification | None] = []
    for found in _daemons():
        try:
            daemon = _reachable(found, line[0])
            check = _find(daemon, line, mark, run)
        except CommandFailedError as error:
            unsure.append(_suspected(holder, found, mark, str(error)) if mark else None)
            continue
        if check is not None and check.evidence:
            return _judged(holder, line, check)
        unsure.append(_judged(holder, line, check) if check else None)
    return next(filter(None, unsure), None)


def waiting(holder: Holder, process: Process, run: CommandRunner) -> Iterator[Waiting]:
    """The checks of one monit whose process is missing, or ends as soon as it is started."""
    found = _daemon(process.pid)
    if found is None:
        return
    try:
        daemon = _reachable(found, process if holder.master is None else holder.master)
        statuses = blocks(_answer(daemon, ("-B", "status"), run))
        settings = blocks(_answer(daemon, ("-t", "-v"), run))
    except CommandFailedError:
        return
    for name, status in statuses.items():
        state = status.get("status", "")
        check = _Check(name, daemon, status, settings.get(name, {}), f"monit status: {state}")
        comes_and_goes = "pid" not in status or status.get("uptime") == _YOUNG
        if comes_and_goes and _is_started(check):
            start = check.settings["Start program"]
            tests = " ".join(check.settings.values())
            tested = frozenset(map(int, re.findall(_TESTED, tests)))
            yield Waiting(_service(holder, check), state, start, tested=tested)


def _is_started(check: _Check) -> bool:
    """Whether monit starts its process where that is missing."""
    return check.watched and "Start program" in check.settings and check.action in _STARTS


def _daemons() -> list[_MonitDaemon]:
    """Every monit that runs here, with its control file."""
    return [found for pid in pids_of("monit") if (found := _daemon(pid)) is not None]


def _daemon(pid: int) -> _MonitDaemon | None:
    """One monit; None where it has ended, or is hidden from this user."""
    try:
        source = psutil.Process(pid)
        with source.oneshot():
            path, users = control_file(source.cmdline()), source.uids()
            if path and not path.startswith("/"):
                path = seen_from(source.cwd(), path)
            program = source.exe()
        process = Process(
            identify(Pid(pid)),
            "monit",
            executable=program or None,
            uid=users.real,
            uids=(users.real, users.effective, users.saved),
        )
    except (psutil.Error, StateChangedError):
        return None
    return _MonitDaemon(process, path, trust.owner_account(process.uid))


def _reachable(daemon: _MonitDaemon, about: Process) -> _MonitDaemon:
    """The same, with the user as whom it is asked about a process.

    Raises:
        UntrustedError: it may not be asked from here.
    """
    account = trust.account_for(daemon.process, about)
    if account is None and daemon.file:
        trust.check_file(daemon.file)
    return replace(daemon, account=account)


def control_file(words: list[str]) -> str | None:
    """The value of monit's option `-c`; None where monit looks for its file itself."""
    for word, following in pairwise((*words[1:], "")):  # a process that ends has no words
        if word == "-c":
            return following
        if word.startswith("-c"):
            return word[2:]
    return None


def _find(
    daemon: _MonitDaemon, line: tuple[Process, ...], mark: str | None, run: CommandRunner
) -> _Check | None:
    """The check whose process is in the line."""
    statuses = blocks(_answer(daemon, ("-B", "status"), run))
    settings = blocks(_answer(daemon, ("-t", "-v"), run))
    pids = {str(process.pid) for process in line}
    for name, status in statuses.items():
        mine = settings.get(name, {})
        if status.get("pid") in pids:
            return _Check(name, daemon, status, mine, f"monit status: pid {status['pid']}")
        if _pid_in(mine.get("Pid file"), daemon.process.uid) in pids:
            return _Check(name, daemon, status, mine, f"monit's PID file {mine['Pid file']}")
        if name == mark and "pid" not in status:
            return _Check(name, daemon, status, mine, "")
    return None


def _answer(daemon: _MonitDaemon, words: tuple[str, ...], run: CommandRunner) -> str:
    return ask_text(run, (*daemon.control, *words), daemon.account)


def blocks(said: str) -> dict[str, dict[str, str]]:
    """The facts of each process, by its name: of `monit status` and of `monit -t -v`.

    Their lines are `  monitoring status    Monitored` and ` Pid file    = /run/web.pid`.
    """
    found: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for text in said.splitlines():
        heading, fact = re.match(_HEADING, text), re.match(_FACT, text)
        if heading:
            current = found.setdefault(heading["status"] or heading["file"], {})
        elif re.match(_OTHER_HEADING, text):
            current = {}
        elif fact:
            current.setdefault(fact["key"], fact["value"])
    return found


def _pid_in(path: str | None, uid: int | None) -> str | None:
    try:
        return trust.read_named(path, uid).decode("ascii").strip() if path else None
    except (OSError, UnicodeError):
        return None


def _judged(holder: Holder, line: Iterable[Process], check: _Check) -> Classification | None:
    if not check.watched or "Start program" not in check.settings:
        return None
    if check.action not in _STARTS and not check.action.startswith("exec"):
        return None
    return classification(holder, line, _service(holder, check))


def _service(holder: Holder, check: _Check) -> ManagedService:
    sure = check.action in _STARTS and bool(check.evidence)
    policy = f"monitored, if does not exist then {check.action}"
    control, stoppable = check.daemon.control, _stoppable(check)
    return ManagedService(
        manager="monit",
        name=check.name,
        title=f"check {check.name}",
        policy=policy,
        respawn=Respawn.YES if sure else Respawn.UNKNOWN,
        confidence=Confidence.CONFIRMED if check.evidence else Confidence.SUSPECTED,
        keeper=str(check.daemon.process),
        evidence=tuple(_evidence(check)),
        stop=(*control, "stop", check.name) if stoppable else (),
        start=(*control, "start", check.name),
        prefix=sudo_for(check.daemon.process),
        account=check.daemon.account,
        patience_seconds=PATIENCE_SECONDS,
        commands=() if stoppable else _unmonitor(holder, check),
        reason=f"process {check.name} of monit ({policy})",
    )


def _evidence(check: _Check) -> Iterator[str]:
    yield check.evidence or f"{_MARK}={check.name} in its environment"
    yield f"monit starts it with {check.settings['Start program']}"
    if check.status.get("on reboot") == "nostart":
        yield "on reboot it is not started"


def _stoppable(check: _Check) -> bool:
    """Without a stop program `monit stop` ends nothing; and `all` means every service."""
    return "Stop program" in check.settings and check.name != "all"


def _unmonitor(holder: Holder, check: _Check) -> tuple[Command, ...]:
    account = check.daemon.account
    words = (*(account.prefix if account else ()), *check.daemon.control, "unmonitor", check.name)
    kill = (Command(("kill", str(holder.master.pid))),) if holder.master else ()
    return (Command(words, "it has no stop program"), *kill)


def _suspected(holder: Holder, daemon: _MonitDaemon, name: str, why: str) -> Classification:
    service = ManagedService(
        manager="monit",
        name=name,
        title=f"check {name}",
        policy="restart policy unknown",
        respawn=Respawn.UNKNOWN,
        confidence=Confidence.SUSPECTED,
        keeper=str(daemon.process),
        evidence=(f"{_MARK}={name} in its environment", f"monit could not be asked: {why}"),
        stop=(*daemon.control, "stop", name),
        start=(*daemon.control, "start", name),
        prefix=sudo_for(daemon.process),
        account=daemon.account,
        patience_seconds=PATIENCE_SECONDS,
        reason=f"probably process {name} of monit, which could not be asked: {why}",
    )
    return classification(holder, filter(None, [holder.master]), service)
