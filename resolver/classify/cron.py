"""Started by cron, anacron or at: nobody watches over it, but its time may come again.

Known from the daemon above the holder. When it comes back is read from the tables of the holder's
user and of the system (crontab(5)), where the command is found there; else it is only said that it
may. It is asked late, after the reloaders: a job may be a loop.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from resolver.errors import CommandFailedError
from resolver.host import trust
from resolver.managed import ask
from resolver.model import Classification, Kind
from resolver.phrases import counted
from resolver.programs import known_as

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.model import Holder, Process, Snapshot
    from resolver.protocols import CommandRunner

_CRONS = frozenset({"cron", "crond", "fcron", "anacron"})
_ONCE = frozenset({"atd"})
_SYSTEM_TABLES = ("/etc/crontab", "/etc/anacrontab", "/etc/cron.d/*")
_ENTRY = r"\s*(@\w+|(?:\S+\s+){4}\S+)\s+(\S.*)"
_USEFUL = 8  # a command of fewer characters says nothing


class _CronEntry(Struct, frozen=True):
    """One line of a table."""

    table: str
    schedule: str
    command: str


def classify(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """A job, or what a job has started."""
    master = holder.master
    if master is None:
        return None
    above = snapshot.above(master)
    if daemons := list(filter(_starts_jobs, above)):
        job = (master, *above[: above.index(daemons[0])])
        return _classification(holder, job, daemons[-1], run)
    return _kept_up(holder, master, run) if [each.pid for each in master.ancestors] == [1] else None


def _kept_up(holder: Holder, master: Process, run: CommandRunner) -> Classification | None:
    """A daemon that a job starts where it finds none: nobody is above it any more."""
    entry = next((found for found in _entries(master, run) if _runs(found, (master,))), None)
    if entry is None:
        return None
    return Classification(
        holder,
        Kind.LOCAL,
        chain=(entry.table, str(master)),
        evidence=(f"{_again(entry)}: {entry.command}",),
        reason=f"process {master}, which a job of {entry.table} starts",
    )


def _starts_jobs(process: Process) -> bool:
    words = [word.rsplit("/", 1)[-1] for word in process.command[:2]]
    applet = words in (["busybox", "crond"], ["busybox", "anacron"])
    return applet or known_as(process, _CRONS | _ONCE)


def _classification(
    holder: Holder, job: tuple[Process, ...], daemon: Process, run: CommandRunner
) -> Classification:
    """A local process: `job` runs from the holder's master up to what the daemon started."""
    once = known_as(daemon, _ONCE)
    workers = len(holder.processes) - 1
    more = (counted(workers, "worker"),) if workers else ()
    return Classification(
        holder,
        Kind.LOCAL,
        chain=(str(daemon), *map(str, reversed(job)), *more),
        evidence=("started by at, which runs a job once" if once else _when(job, run),),
        reason=f"process {holder.master}, started by {daemon.name}",
    )


def _when(job: tuple[Process, ...], run: CommandRunner) -> str:
    """When its time comes again, as far as the tables tell."""
    entry = next((found for found in _entries(job[-1], run) if _runs(found, job)), None)
    unknown = "started by cron: it may come back at its next time (crontab -l, /etc/cron.d)"
    return _again(entry) if entry else unknown


def _again(entry: _CronEntry) -> str:
    if entry.schedule == "@reboot":
        return f"{entry.table}: @reboot: it comes back when the machine starts again"
    return f"{entry.table}: it comes back at {entry.schedule}"


def _runs(entry: _CronEntry, job: tuple[Process, ...]) -> bool:
    """Whether the entry's command is what one of these processes runs; a shell may be between."""
    wanted = " ".join(entry.command.split())
    for process in job:
        words = process.command[2:] if process.command[1:2] == ("-c",) else process.command
        command = " ".join(" ".join(words).split())
        if min(len(command), len(wanted)) >= _USEFUL and (command in wanted or wanted in command):
            return True
    return False


def _entries(job: Process, run: CommandRunner) -> Iterator[_CronEntry]:
    """Every line of the tables that this user may read; those of the system name a user first."""
    theirs, own = (("-u", job.user or ""), f"crontab of {job.user}"), ((), "crontab")
    is_one = (os.geteuid(), job.user) == (0, "root")
    for words, table in (theirs,) if is_one else (theirs, own):
        try:
            answer = ask(run, ("crontab", *words, "-l"))
        except CommandFailedError:
            break
        yield from _parsed(table, answer.stdout if answer.status == 0 else "")
    for place in _SYSTEM_TABLES:
        for file in trust.named_files(place, 0):
            for entry in _parsed(file, trust.text_named(file, 0)):
                _, _, command = entry.command.partition(" ")
                yield replace(entry, command=command.strip())


def _parsed(table: str, text: str) -> Iterator[_CronEntry]:
    for line in text.splitlines():
        match = None if line.lstrip().startswith("#") else re.fullmatch(_ENTRY, line)
        if match:
            yield _CronEntry(table, " ".join(match[1].split()), match[2].strip())
