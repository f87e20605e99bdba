"""Procfile runners: honcho, foreman, nf, and process-compose.

Suspected from the runner above the holder, and confirmed by the kernel: who else descends from the
runner. They do not start again what has ended, but for the policies of process-compose; they end
all the others instead (honcho: `Manager.loop`; foreman: `Engine#watch_for_termination`). They have
no command that stops them: a SIGTERM ends them with all that they run, as Ctrl-C does.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.ancestry import others_below
from resolver.errors import CommandFailedError
from resolver.managed import Daemon
from resolver.model import Classification, Command, Confidence, Kind, Manager, Respawn
from resolver.phrases import listed

if TYPE_CHECKING:
    from resolver.model import Holder, Pid, Process, Snapshot
    from resolver.protocols import CommandRunner

# The variable in which each of them tells a process its name
_NAMES = {
    "honcho": "HONCHO_PROCESS_NAME",
    "foreman": "PS",
    "nf": "FOREMAN_WORKER_NAME",
    "process-compose": "PC_PROC_NAME",
}
_STARTING = {"honcho", "foreman", "nf"}  # these have other commands than `start`, too
_NUMBER = r"(?<![\w.])\d+(?![\w.])"
_MANY = 6  # PIDs named of those that would end too


class _ProcfileRunner(Struct, frozen=True):
    """A runner, what it calls the holder (empty where it does not say), and what starts it all."""

    kind: str
    process: Process
    name: str

    def __str__(self) -> str:
        return f"process {self.name} of {self.kind}" if self.name else f"a process of {self.kind}"


def classify(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """A process of a Procfile, or None where no runner is above it."""
    line = [holder.master, *snapshot.above(holder.master)] if holder.master else []
    runner = _suspect(line)
    if runner is None:
        return None
    others = others_below(runner.process, line, holder)
    if runner.process.identity in snapshot.own:
        return _callers(holder, runner, others)
    if runner.kind == "process-compose":
        return _process_compose(holder, runner, run)
    return _whole(holder, runner, others)


def _suspect(line: list[Process]) -> _ProcfileRunner | None:
    """The topmost process of the nearest runner: honcho has one of its own above each process."""
    found: _ProcfileRunner | None = None
    for process in line[1:]:
        kind = _kind(process)
        if found and kind != found.kind:
            break
        if kind:
            found = _ProcfileRunner(kind, process, line[0].variable(_NAMES[kind]) or "")
    return found


def _kind(process: Process) -> str | None:
    words = [word.rsplit("/", 1)[-1] for word in process.command]
    if words[:1] == ["foreman: master"]:
        return "foreman"
    kind = next((word for word in (process.name, *words[:3]) if word in _NAMES), None)
    return None if kind in _STARTING and "start" not in words else kind


def _harm(runner: _ProcfileRunner, others: list[Pid]) -> str:
    if not others:
        return ""
    return f"{runner.kind} ends all of its processes when one ends, {listed(others, _MANY)} too"


def _callers(holder: Holder, runner: _ProcfileRunner, others: list[Pid]) -> Classification:
    """The runner has started this very command, too."""
    return Classification(
        holder,
        Kind.SERVICE,
        chain=_chain(holder, runner),
        evidence=(f"{runner.process} is an ancestor of this command",),
        reason=f"{runner}, which also runs this command; {_harm(runner, others)}",
        commands=(
            Command(("kill", "-INT", str(runner.process.pid)), "ends all of it, this command too"),
        ),
        harm=_harm(runner, others),
    )


def _whole(holder: Holder, runner: _ProcfileRunner, others: list[Pid]) -> Classification:
    """One that can only be ended as a whole, in the way in which Ctrl-C ends it."""
    process = runner.process
    # foreman gives itself a title, which hides how it was started
    command = ("foreman", "start") if runner.kind == "foreman" else process.command
    return Classification(
        holder,
        Kind.SERVICE,
        respawn=Respawn.NO,
        manager=Manager(
            kind=runner.kind,
            name=runner.name or str(process),
            policy="all end when one ends",
            start=(("env", "-C", process.cwd, *command) if process.cwd else command,),
            prefix=() if process.signalable else ("sudo",),
        ),
        runner=process,
        commands=(Command(("kill", "-INT", str(process.pid))),),
        chain=_chain(holder, runner),
        evidence=(
            f"{process} runs {f'{len(others)} other processes' if others else 'nothing else'}",
        ),
        reason=str(runner),
        harm=_harm(runner, others),
    )


def _process_compose(holder: Holder, runner: _ProcfileRunner, run: CommandRunner) -> Classification:
    """It has a restart policy for each process, in a file that is not read here."""
    where = tuple(
        part
        for word, following in pairwise((*runner.process.command, ""))
        if word in {"-p", "--port", "-u", "--unix-socket", "-a", "--address"}
        for part in (word, following)
    )
    daemon = Daemon.of(runner.kind, runner.process, "process-compose", *where, "process")
    try:
        daemon.check(holder.master)
        confidence, evidence = _named(holder, daemon.ask(run, "list", "-o", "json").stdout)
    except CommandFailedError as error:
        confidence, evidence = Confidence.SUSPECTED, f"process-compose could not be asked: {error}"
    return Classification(
        holder,
        Kind.SERVICE,
        respawn=Respawn.UNKNOWN,
        confidence=confidence,
        manager=Manager(
            kind=runner.kind,
            name=runner.name,
            policy="availability.restart unknown",
            stop=((*daemon.control, "stop", runner.name),),
            start=((*daemon.control, "start", runner.name),),
            account=daemon.account,
        ),
        chain=_chain(holder, runner),
        evidence=(f"started by {runner.process}", evidence),
        reason=str(runner),
    )


def _named(holder: Holder, said: str) -> tuple[Confidence, str]:
    """Whether the runner names a process of the holder's line: as a number, in table or JSON."""
    line = holder.master.line if holder.master else ()
    numbers = set(map(int, re.findall(_NUMBER, said)))
    pid = next((each.pid for each in line if each.pid in numbers and each.pid > 1), None)
    if pid is None:
        return Confidence.SUSPECTED, "process-compose does not name it"
    return Confidence.CONFIRMED, f"process-compose names process {pid}"


def _chain(holder: Holder, runner: _ProcfileRunner) -> tuple[str, ...]:
    return (str(holder.master), runner.name or "a line of its Procfile", str(runner.process))
