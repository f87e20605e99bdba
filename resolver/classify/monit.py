"""monit: processes that monit watches, and starts again at one of its next checks.

monit is nobody's parent: it knows a process by its PID file or by a pattern. Suspected where a
monit runs here (or the environment has its mark), confirmed by `monit status`, which names the PID,
and by `monit -t -v`, which prints the control file as monit reads it (monit(1), "SERVICE METHODS",
"EXISTENCE TESTS", "SERVICE MONITORING MODE"). It is asked before all others, since whatever another
manager stops, monit starts again. What monit would not start again is left to the others.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import psutil
from msgspec import Struct
from msgspec.structs import replace

from resolver.ancestry import own_line, seen_from
from resolver.errors import CommandFailedError, StateChangedError
from resolver.host import trust
from resolver.host.identity import identify
from resolver.host.processes import pids_of
from resolver.managed import Daemon, ManagedService, ask_text, classification
from resolver.model import Command, Confidence, Pid, Process, Respawn, StopInquiry
from resolver.programs import options
from resolver.settings import PATIENCE_SECONDS
from resolver.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.model import Classification, Holder, Snapshot
    from resolver.protocols import CommandRunner

_MARK = "MONIT_SERVICE"  # in the environment of what monit has started
_HEADING = r"^(?:Process '(?P<status>.*)'|Process Name\s*= (?P<file>.*))$"
_OTHER_HEADING = r"^\S"
_FACT = r"^ {1,2}(?P<key>\S+(?: \S+)*?)\s*(?:=|\s)\s+(?P<value>\S.*)$"
_STARTS = ("restart", "start")
_YOUNG = "0m"  # the uptime of what has run for less than a minute
_STOPPED = r"monitoring status\s+Not monitored"
_TESTED = r"\bfailed \[[^]]*\]:(\d+)\b"


class _Check(Struct, frozen=True):
    """A `check process` of monit's, with what `monit status` and `monit -t -v` say of it.

    `evidence` says how its process is known to be the holder's; empty where only its name is.
    """

    name: str
    status: dict[str, str]
    settings: dict[str, str]
    evidence: str = ""

    @property
    def action(self) -> str:
        """What monit does where the process does not exist; monit(1): restart, if not told."""
        said = self.settings.get("Existence", "if does not exist then restart")
        return said.partition(" then ")[2].partition(" else ")[0].strip()

    @property
    def starts(self) -> bool:
        """Whether monit would start it: it is monitored, and not passively."""
        active = self.status.get("monitoring mode", "active") != "passive"
        watched = active and not self.status.get("monitoring status", "").startswith("Not")
        acts = self.action in _STARTS or self.action.startswith("exec")
        return watched and acts and "Start program" in self.settings

    @property
    def stoppable(self) -> bool:
        """Without a stop program `monit stop` ends nothing; and `all` means every service."""
        return "Stop program" in self.settings and self.name != "all"


def classify(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """A process that monit would start again; None where it would not, whoever else might."""
    line = own_line(holder, snapshot)
    mark = line[0].variable(_MARK) if line else None
    if not line or (mark is None and not trust.is_installed("monit")):
        return None
    if any(process.identity in snapshot.own for process in line):
        return None
    unsure: list[Classification] = []
    for daemon in _daemons():
        try:
            daemon.check(line[0])
            check = _find(daemon, line, mark, run)
        except CommandFailedError as error:
            if mark:
                unsure.append(_suspected(holder, daemon, mark, str(error)))
            continue
        judged = None
        if check and check.starts:
            judged = classification(holder, line, _service(holder, daemon, check))
        if check and check.evidence:
            return judged
        unsure += [judged] if judged else []
    return next(iter(unsure), None)


def waiting(holder: Holder, process: Process, run: CommandRunner) -> Iterator[Waiting]:
    """The checks of one monit whose process is missing, or ends as soon as it is started.

    Raises:
        CommandFailedError: it could not be asked.
    """
    daemon = _daemon(process.pid)
    if daemon is None:
        return
    daemon.check(holder.master or process)
    for check in _checks(daemon, run):
        status, settings, state = check.status, check.settings, check.status.get("status", "")
        comes_and_goes = "pid" not in status or status.get("uptime") == _YOUNG
        if comes_and_goes and check.starts and check.action in _STARTS:
            tested = frozenset(map(int, re.findall(_TESTED, " ".join(settings.values()))))
            found = replace(check, evidence=f"monit status: {state}")
            service = _service(holder, daemon, found)
            yield Waiting(service, state, settings["Start program"], tested=tested)


def _daemons() -> list[Daemon]:
    """Every monit that runs here."""
    return [found for pid in pids_of("monit") if (found := _daemon(pid)) is not None]


def _daemon(pid: int) -> Daemon | None:
    """One monit; None where it has ended, or is hidden from this user."""
    try:
        source = psutil.Process(pid)
        with source.oneshot():
            path, users = next(options(source.cmdline(), "-c"), None), source.uids()
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
    return Daemon.of("monit", process, "monit", *(("-c", path) if path else ()), file=path)


def _checks(daemon: Daemon, run: CommandRunner) -> list[_Check]:
    """What monit says of each process.

    Raises:
        CommandFailedError: it does not answer.
    """
    said = (
        ask_text(run, (*daemon.control, *words), daemon.account)
        for words in (("-B", "status"), ("-t", "-v"))
    )
    statuses, settings = map(blocks, said)
    return [_Check(name, facts, settings.get(name, {})) for name, facts in statuses.items()]


def _find(
    daemon: Daemon, line: tuple[Process, ...], mark: str | None, run: CommandRunner
) -> _Check | None:
    """The check whose process is in the line."""
    pids = {str(process.pid) for process in line}
    for check in _checks(daemon, run):
        if check.status.get("pid") in pids:
            return replace(check, evidence=f"monit status: pid {check.status['pid']}")
        file = check.settings.get("Pid file", "")
        if trust.text_named(file, daemon.process.uid).strip() in pids:
            return replace(check, evidence=f"monit's PID file {file}")
        if check.name == mark and "pid" not in check.status:
            return check
    return None


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


def _service(holder: Holder, daemon: Daemon, check: _Check) -> ManagedService:
    sure = check.action in _STARTS and bool(check.evidence)
    policy = f"monitored, if does not exist then {check.action}"
    asked = (*daemon.control, "-B", "status", check.name)
    facts: dict[str, Any] = {"inquiry": StopInquiry(asked, _STOPPED)}
    if not check.stoppable:
        unmonitor = daemon.command("unmonitor", check.name, comment="it has no stop program")
        kill = (Command(("kill", str(holder.master.pid))),) if holder.master else ()
        facts = {"stop": (), "commands": (unmonitor, *kill)}
    return daemon.service(
        check.name,
        title=f"check {check.name}",
        policy=policy,
        respawn=Respawn.YES if sure else Respawn.UNKNOWN,
        confidence=Confidence.CONFIRMED if check.evidence else Confidence.SUSPECTED,
        evidence=tuple(_evidence(check)),
        patience_seconds=PATIENCE_SECONDS,
        reason=f"process {check.name} of monit ({policy})",
        **facts,
    )


def _evidence(check: _Check) -> Iterator[str]:
    yield check.evidence or f"{_MARK}={check.name} in its environment"
    yield f"monit starts it with {check.settings['Start program']}"
    if check.status.get("on reboot") == "nostart":
        yield "on reboot it is not started"


def _suspected(holder: Holder, daemon: Daemon, name: str, why: str) -> Classification:
    service = daemon.service(
        name,
        title=f"check {name}",
        confidence=Confidence.SUSPECTED,
        evidence=(f"{_MARK}={name} in its environment", f"monit could not be asked: {why}"),
        patience_seconds=PATIENCE_SECONDS,
        reason=f"probably process {name} of monit, which could not be asked: {why}",
    )
    return classification(holder, holder.processes[:1], service)
