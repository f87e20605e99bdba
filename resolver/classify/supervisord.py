"""supervisord: programs and groups.

Suspected from the environment that supervisord gives its programs, confirmed by `supervisorctl pid`
(supervisor's documentation, "Subprocess environment" and "supervisorctl actions"). The environment
is inherited by everything that a program starts, so the program's own process must hold the port,
or be above the one that does. The restart policy is read from supervisord's own configuration.
"""

from __future__ import annotations

import os
import re
from configparser import ConfigParser, Error
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from resolver.ancestry import seen_from, tool
from resolver.errors import CommandFailedError
from resolver.host import trust
from resolver.managed import Daemon, ManagedService, classification
from resolver.model import Confidence, Respawn
from resolver.programs import known_as
from resolver.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from configparser import SectionProxy

    from resolver.model import Classification, Holder, Process, Snapshot
    from resolver.protocols import CommandRunner

_DEFAULT_FILES = ("supervisord.conf", "etc/supervisord.conf", "/etc/supervisord.conf",
                  "/etc/supervisor/supervisord.conf")  # fmt: skip
_CONFIGURATION = r"(?:--configuration(?:=|\Z)|-[nhvkts]*c)(.*)"  # with its short flags in front
_PROGRAMS = ("program:", "fcgi-program:")
_STARTING = {"STARTING", "BACKOFF"}
_SUPERVISORD = frozenset({"supervisord"})


class _Program(Struct, frozen=True):
    """A supervised program."""

    group: str
    name: str
    daemon: Daemon

    @property
    def title(self) -> str:
        return f"{self.group}:{self.name}"


def classify(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """A program that supervisord started, and may start again."""
    program, master = _suspect(holder, snapshot), holder.master
    if program is None or master is None:
        return None
    confidence = Confidence.SUSPECTED
    try:
        _check(program, master)
        pid = _main_pid(program, run)
    except CommandFailedError as error:
        evidence = str(error)
    else:
        if pid in {each.pid for each in snapshot.own}:  # to stop what we run in is to end us
            return None
        evidence = f"supervisorctl says that {program.title} is process {pid}"
        if pid in {each.pid for each in master.line}:
            confidence, evidence = Confidence.CONFIRMED, f"supervisorctl pid: {pid}"
    return classification(holder, (master,), _service(program, confidence, evidence))


def waiting(holder: Holder, daemon: Process, run: CommandRunner) -> Iterator[Waiting]:
    """The programs of one supervisord that it is starting, or about to start again.

    It says so itself: STARTING, or BACKOFF (its documentation, "Process States"), whatever
    `autorestart` says. What they print is asked for where nothing else tells their port.

    Raises:
        CommandFailedError: it could not be asked.
    """
    program = _Program("", "", _daemon(daemon))
    _check(program, holder.master)
    lines = program.daemon.ask(run, "status").stdout.splitlines()
    for words in filter(_is_starting, map(str.split, lines)):
        group, _, name = words[0].rpartition(":")
        yield _waiting(replace(program, group=group or name, name=name), words[1], run)


def _is_starting(words: list[str]) -> bool:
    return len(words) > 1 and words[1] in _STARTING and not words[0].startswith("-")


def _waiting(program: _Program, state: str, run: CommandRunner) -> Waiting:
    section = _section(program)
    service = _service(program, Confidence.CONFIRMED, f"supervisorctl status: {state}")
    return Waiting(
        replace(service, respawn=Respawn.YES),
        state,
        section.get("command", "") if section else "",
        tuple(section.get("environment", "").split(",")) if section else (),
        partial(_log, program, run),
    )


def _log(program: _Program, run: CommandRunner) -> str:
    """The last that it printed, on whichever stream supervisord keeps."""
    found = []
    for stream in ("stderr", "stdout"):
        with suppress(CommandFailedError):
            said = program.daemon.ask(run, "tail", program.title, stream).stdout
            found += [said] if f"{program.title}: ERROR (" not in said else []
    return "\n".join(found)


def _suspect(holder: Holder, snapshot: Snapshot) -> _Program | None:
    master = holder.master
    name = master.variable("SUPERVISOR_PROCESS_NAME") if master else None
    if master is None or name is None:
        return None
    line = (each for each in snapshot.above(master) if known_as(each, _SUPERVISORD))
    daemon = next(line, None)
    if daemon is None:  # reparented: nobody supervises it any more
        return None
    return _Program(master.variable("SUPERVISOR_GROUP_NAME") or name, name, _daemon(daemon))


def _daemon(supervisord: Process) -> Daemon:
    """How a supervisord is asked.

    Where its server is, supervisorctl reads from the file that the daemon itself was started with,
    never from a variable of the holder's: it sends its password there.
    """
    path = _configuration(supervisord)
    control = (tool("supervisorctl", supervisord), *(("-c", path) if path else ()))
    return Daemon.of("supervisord", supervisord, *control, file=path)


def _check(program: _Program, master: Process | None) -> None:
    """Sees to it that its supervisord may be asked about it.

    Raises:
        CommandFailedError: it may not be asked, or supervisorctl would look elsewhere.
    """
    program.daemon.check(master)
    path = program.daemon.file
    if program.title.startswith("-"):
        raise CommandFailedError("what the holder calls itself is no name of a program")
    if path is None:  # supervisorctl would read what it finds in places of its own
        raise CommandFailedError("its configuration file is not known")
    settings = _settings(program.daemon)
    if settings is not None and not settings.has_section("supervisorctl"):
        raise CommandFailedError(f"{path} has no section [supervisorctl]")


def _configuration(daemon: Process) -> str | None:
    """The file that supervisord was started with, or the first of its default places."""
    folder = daemon.cwd or "/"
    for word, following in pairwise((*daemon.command, "")):
        if given := re.fullmatch(_CONFIGURATION, word):
            return seen_from(folder, given[1] or following)
    places = (os.path.join(folder, name) for name in _DEFAULT_FILES)
    return next(filter(os.path.isfile, places), None)


def _main_pid(program: _Program, run: CommandRunner) -> int:
    answer = program.daemon.ask(run, "pid", program.title)
    text = answer.stdout.strip()
    if not text.isdigit():
        said = (text or answer.stderr.strip()).partition("\n")[0]
        raise CommandFailedError(f"supervisorctl said: {said}")
    return int(text)


def _service(program: _Program, confidence: Confidence, evidence: str) -> ManagedService:
    section, path = _section(program), program.daemon.file
    policy, respawn = "autorestart unknown", Respawn.UNKNOWN
    if section is not None:
        value = section.get("autorestart", "unexpected").split(";")[0].strip().lower()
        value = str(ConfigParser.BOOLEAN_STATES.get(value, value)).lower()
        settled = value == "false" and confidence is Confidence.CONFIRMED
        policy, respawn = f"autorestart={value}", Respawn.NO if settled else Respawn.YES
    return program.daemon.service(
        program.title,
        title=f"program {program.title}",
        policy=policy,
        respawn=respawn,
        confidence=confidence,
        evidence=(evidence, *((f"read {path}",) if path else ())),
    )


def _section(program: _Program) -> SectionProxy | None:
    """The section that a program is configured in; None where there is none, or it is hidden."""
    settings = _settings(program.daemon)
    if settings is None:
        return None
    names = [name for name in settings.sections() if name.startswith(_PROGRAMS)]
    exact = [name for name in names if name.partition(":")[2] == program.name]
    if not settings.has_section(f"group:{program.group}"):  # then it is the program's own name
        exact += [name for name in names if name.partition(":")[2] == program.group]
    numbered = [name for name in names if program.name.startswith(name.partition(":")[2] + "_")]
    return next((settings[name] for name in (*exact, *numbered)), None)


def _settings(daemon: Daemon) -> ConfigParser | None:
    """The configuration with what it includes; None where it cannot be read."""
    path, uid = daemon.file, daemon.process.uid
    settings = ConfigParser(interpolation=None, strict=False, inline_comment_prefixes=(" ;", "\t;"))
    try:
        settings.read_string(trust.read_named(path or "", uid).decode())
        for pattern in settings.get("include", "files", fallback="").split():
            here = os.path.dirname(path or "")
            whole = os.path.join(here, pattern.replace("%(here)s", here))
            for each in trust.named_files(whole, uid):
                settings.read_string(trust.read_named(each, uid).decode())
    except (Error, OSError, UnicodeError, ValueError):
        return None
    return settings
