"""Started by cron, anacron or at: nobody watches over it, but its time may come again.

Known from the daemon above the holder. When it comes back is read from the tables of the holder's
user and of the system (crontab(5)), where the command is found there; else it is only said that it
may. It is asked late, after the reloaders: a job may be a loop.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from resolver.errors import CommandFailedError
from resolver.model import Classification, Kind
from resolver.programs import known_as
from resolver.settings import COMMAND_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.model import Holder, Process, Snapshot
    from resolver.protocols import CommandRunner

RANK = 94

_CRONS = frozenset({"cron", "crond", "fcron", "anacron"})
_ONCE = frozenset({"atd"})
_SYSTEM_TABLES = (Path("/etc/crontab"), Path("/etc/anacrontab"), Path("/etc/cron.d"))
_ENTRY = re.compile(r"\s*(@\w+|(?:\S+\s+){4}\S+)\s+(\S.*)")
_USEFUL = 4  # a command of fewer characters says nothing


class _Entry(NamedTuple):
    """One line of a table."""

    table: str
    schedule: str
    command: str


def classify(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """A job, or what a job has started."""
    master = holder.master
    if master is None:
        return None
    line = [master]
    for identity in master.ancestors:
        process = snapshot.process(identity)
        if process is None:
            return None
        if known_as(process, _ONCE):
            note = "started by at, which runs a job once"
            return _classification(holder, line, process, note)
        if known_as(process, _CRONS) or _is_busybox(process):
            return _classification(holder, line, process, _when(line, run))
        line.append(process)
    return None


def _is_busybox(process: Process) -> bool:
    words = [word.rsplit("/", 1)[-1] for word in process.command[:2]]
    return words in (["busybox", "crond"], ["busybox", "anacron"])


def _classification(
    holder: Holder, line: list[Process], daemon: Process, note: str
) -> Classification:
    job = [process for process in reversed(line) if not known_as(process, _CRONS | _ONCE)]
    workers = len(holder.processes) - 1
    more = (f"{workers} worker{'s' if workers > 1 else ''}",) if workers else ()
    return Classification(
        holder,
        Kind.LOCAL,
        chain=(str(daemon), *map(str, job), *more),
        evidence=(note,),
        reason=f"process {holder.master}, started by {daemon.name}",
    )


def _when(line: list[Process], run: CommandRunner) -> str:
    """When its time comes again, as far as the tables tell."""
    entry = next((found for found in _entries(line[-1], run) if _runs(found, line)), None)
    if entry is None:
        return "started by cron: it may come back at its next time (crontab -l, /etc/cron.d)"
    if entry.schedule == "@reboot":
        return f"{entry.table}: @reboot: it comes back when the machine starts again"
    return f"{entry.table}: it comes back at {entry.schedule}"


def _runs(entry: _Entry, line: list[Process]) -> bool:
    """Whether one of these processes is what the entry's command has started."""
    wanted = " ".join(entry.command.split())
    for process in line:
        command = " ".join(" ".join(process.command).split())
        if len(command) < _USEFUL:
            continue
        shell = process.command[1:2] == ("-c",) and wanted == " ".join(process.command[2].split())
        if shell or command in {wanted, wanted.removeprefix("exec ")}:
            return True
    return False


def _entries(job: Process, run: CommandRunner) -> Iterator[_Entry]:
    """Every line of the tables that this user may read; those of the system name a user first."""
    for words, table in ((("-u", job.user or ""), f"crontab of {job.user}"), ((), "crontab")):
        try:
            answer = run(("crontab", *words, "-l"), timeout_seconds=COMMAND_TIMEOUT_SECONDS)
        except CommandFailedError:
            break
        yield from _parsed(table, answer.stdout if answer.status == 0 else "")
    for place in _SYSTEM_TABLES:
        for file in sorted(place.iterdir()) if place.is_dir() else [place]:
            for entry in _parsed(str(file), _text(file)):
                _, _, command = entry.command.partition(" ")
                yield entry._replace(command=command.strip())


def _parsed(table: str, text: str) -> Iterator[_Entry]:
    for line in text.splitlines():
        match = None if line.lstrip().startswith("#") else _ENTRY.fullmatch(line)
        if match:
            yield _Entry(table, " ".join(match[1].split()), match[2].strip())


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
