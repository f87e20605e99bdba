"""Procfile runners: honcho, foreman, nf, and process-compose.

Suspected from the runner above the holder, and confirmed by the kernel: who else descends from the
runner. They do not start again what has ended, but for the policies of process-compose; they end
all the others instead (honcho: `Manager.loop`; foreman: `Engine#watch_for_termination`). They have
no command that stops them: a SIGTERM ends them with all that they run, as Ctrl-C does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import CommandFailedError
from resolver.host import trust
from resolver.host.processes import descendants
from resolver.managed import ask
from resolver.model import Classification, Command, Confidence, Kind, Manager, Respawn

if TYPE_CHECKING:
    from resolver.model import Account, Holder, Process, Snapshot
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


def classify(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """A process of a Procfile, or None where no runner is above it."""
    line = _line(holder, snapshot)
    runner = _suspect(line)
    if runner is None:
        return None
    others = _others(runner, line, holder)
    if runner.process.identity in snapshot.own:
        return _callers(holder, runner, others)
    if runner.kind == "process-compose":
        return _process_compose(holder, runner, run)
    return _whole(holder, runner, others)


def _line(holder: Holder, snapshot: Snapshot) -> list[Process]:
    """The holder's master and all that is above it."""
    if holder.master is None:
        return []
    above = (snapshot.process(identity) for identity in holder.master.ancestors)
    return [holder.master, *(process for process in above if process is not None)]


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


def _others(runner: _ProcfileRunner, line: list[Process], holder: Holder) -> list[int]:
    """Whoever else descends from the runner, and would be ended with the holder."""
    known = {process.pid for process in (*line, *holder.processes)}
    below = {pid for process in holder.processes for pid in descendants(process.pid)}
    return sorted(descendants(runner.process.pid) - known - below)


def _harm(runner: _ProcfileRunner, others: list[int]) -> str:
    if not others:
        return ""
    listed = ", ".join(map(str, others[:_MANY])) + (", …" if len(others) > _MANY else "")
    return f"{runner.kind} ends all of its processes when one ends, {listed} too"


def _callers(holder: Holder, runner: _ProcfileRunner, others: list[int]) -> Classification:
    """The runner has started this very command, too."""
    return Classification(
        holder,
        Kind.SERVICE,
        chain=_chain(holder, runner),
        evidence=(f"{runner.process} is an ancestor of this command",),
        reason=f"{_what(runner)}, which also runs this command; {_harm(runner, others)}",
        commands=(
            Command(("kill", "-INT", str(runner.process.pid)), "ends all of it, this command too"),
        ),
        harm=_harm(runner, others),
    )


def _whole(holder: Holder, runner: _ProcfileRunner, others: list[int]) -> Classification:
    """One that can only be ended as a whole, in the way in which Ctrl-C ends it."""
    process = runner.process
    # foreman gives itself a title, which hides how it was started
    command = ("foreman", "start") if runner.kind == "foreman" else process.command
    start = (("env", "-C", process.cwd, *command),) if process.cwd else (command,)
    return Classification(
        holder,
        Kind.SERVICE,
        respawn=Respawn.NO,
        manager=Manager(
            kind=runner.kind,
            name=runner.name or str(process),
            policy="all end when one ends",
            start=start,
            prefix=() if process.signalable else ("sudo",),
        ),
        runner=process,
        commands=(Command(("kill", "-INT", str(process.pid))),),
        chain=_chain(holder, runner),
        evidence=(_evidence(runner, others),),
        reason=_what(runner),
        harm=_harm(runner, others),
    )


def _process_compose(holder: Holder, runner: _ProcfileRunner, run: CommandRunner) -> Classification:
    """It has a restart policy for each process, in a file that is not read here."""
    words = runner.process.command
    where = tuple(
        part
        for word, following in zip(words, (*words[1:], ""), strict=True)
        if word in {"-p", "--port", "-u", "--unix-socket", "-a", "--address"}
        for part in (word, following)
    )
    control = ("process-compose", *where, "process")
    account = trust.owner_account(runner.process.uid)
    try:
        account = trust.account_for(runner.process, holder.master)
        confidence, evidence = _ask(holder, (*control, "list", "-o", "json"), account, run)
    except CommandFailedError as error:
        confidence, evidence = Confidence.SUSPECTED, f"{control[0]} could not be asked: {error}"
    return Classification(
        holder,
        Kind.SERVICE,
        respawn=Respawn.UNKNOWN,
        confidence=confidence,
        manager=Manager(
            kind=runner.kind,
            name=runner.name,
            policy="availability.restart unknown",
            stop=((*control, "stop", runner.name),),
            start=((*control, "start", runner.name),),
            account=account,
        ),
        chain=_chain(holder, runner),
        evidence=(f"started by {runner.process}", evidence),
        reason=_what(runner),
    )


def _ask(
    holder: Holder, question: tuple[str, ...], account: Account | None, run: CommandRunner
) -> tuple[Confidence, str]:
    """Whether the runner names a process of the holder's line: as a number, in table or JSON.

    Raises:
        CommandFailedError: it did not answer.
    """
    answer = ask(run, question, account)
    line = (holder.master.identity, *holder.master.ancestors) if holder.master else ()
    numbers = set(map(int, re.findall(_NUMBER, answer.stdout)))
    pid = next((each.pid for each in line if each.pid in numbers and each.pid > 1), None)
    if pid is None:
        return Confidence.SUSPECTED, f"{question[0]} does not name it"
    return Confidence.CONFIRMED, f"{question[0]} names process {pid}"


def _what(runner: _ProcfileRunner) -> str:
    return (
        f"process {runner.name} of {runner.kind}" if runner.name else f"a process of {runner.kind}"
    )


def _evidence(runner: _ProcfileRunner, others: list[int]) -> str:
    if others:
        return f"{runner.process} runs {len(others)} other processes"
    return f"{runner.process} runs nothing else"


def _chain(holder: Holder, runner: _ProcfileRunner) -> tuple[str, ...]:
    return (str(holder.master), runner.name or "a line of its Procfile", str(runner.process))
