"""supervisord: programs and groups.

Suspected from the environment that supervisord gives its programs, confirmed by `supervisorctl pid`
(supervisor's documentation, "Subprocess environment" and "supervisorctl actions"). The environment
is inherited by everything that a program starts, so the program's own process must hold the port,
or be above the one that does. The restart policy is read from supervisord's own configuration.
"""

from __future__ import annotations

import os
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
from resolver.managed import ManagedService, ask, classification, sudo_for
from resolver.model import Confidence, Respawn
from resolver.programs import known_as
from resolver.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from configparser import SectionProxy

    from resolver.model import Account, Classification, Holder, Process, Snapshot
    from resolver.protocols import CommandRunner

_DEFAULT_FILES = ("supervisord.conf", "etc/supervisord.conf", "/etc/supervisord.conf",
                  "/etc/supervisor/supervisord.conf")  # fmt: skip
_PROGRAMS = ("program:", "fcgi-program:")
_UNKNOWN_POLICY = "autorestart unknown"
_STARTING = {"STARTING", "BACKOFF"}


class _Program(Struct, frozen=True):
    """A supervised program, and how to reach its supervisord: by its configuration file."""

    group: str
    name: str
    daemon: Process
    configuration: str | None
    account: Account | None = None

    @property
    def control(self) -> tuple[str, ...]:
        """The words that supervisorctl is called with.

        Where its server is, it reads from the file that the daemon itself was started with, never
        from a variable of the holder's: it sends its password there.
        """
        where = ("-c", self.configuration) if self.configuration else ()
        return (tool("supervisorctl", self.daemon), *where)

    @property
    def title(self) -> str:
        return f"{self.group}:{self.name}"


def classify(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """A program that supervisord started, and may start again."""
    program = _suspect(holder, snapshot)
    if program is None or holder.master is None:
        return None
    try:
        program = _reachable(program, holder.master)
        pid = _main_pid(program, run)
    except CommandFailedError as error:
        return _classification(holder, program, Confidence.SUSPECTED, str(error))
    line = {holder.master.pid, *(ancestor.pid for ancestor in holder.master.ancestors)}
    if pid in {each.pid for each in snapshot.own}:  # to stop what we run in is to end us
        return None
    if pid not in line:  # another instance answered, or this is not the program's own process
        other = f"supervisorctl says that {program.title} is process {pid}"
        return _classification(holder, program, Confidence.SUSPECTED, other)
    return _classification(holder, program, Confidence.CONFIRMED, f"supervisorctl pid: {pid}")


def waiting(holder: Holder, daemon: Process, run: CommandRunner) -> Iterator[Waiting]:
    """The programs of one supervisord that it is starting, or about to start again.

    It says so itself: STARTING, or BACKOFF (its documentation, "Process States"), whatever
    `autorestart` says. What they print is asked for where nothing else tells their port.
    """
    program = _Program("", "", daemon, _configuration(daemon), trust.owner_account(daemon.uid))
    try:
        program = _reachable(program, holder.master)
        lines = ask(run, (*program.control, "status"), program.account).stdout.splitlines()
    except CommandFailedError:
        return
    for words in filter(_is_starting, map(str.split, lines)):
        group, _, name = words[0].rpartition(":")
        yield _waiting(replace(program, group=group or name, name=name), words[1], run)


def _is_starting(words: list[str]) -> bool:
    return len(words) > 1 and words[1] in _STARTING and not words[0].startswith("-")


def _waiting(program: _Program, state: str, run: CommandRunner) -> Waiting:
    settings = _read(program.configuration, program.daemon.uid) if program.configuration else None
    section = _section(program, settings) if settings else None
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
            words = (*program.control, "tail", program.title, stream)
            said = ask(run, words, program.account).stdout
            found += [said] if f"{program.title}: ERROR (" not in said else []
    return "\n".join(found)


def _suspect(holder: Holder, snapshot: Snapshot) -> _Program | None:
    master = holder.master
    name = master.variable("SUPERVISOR_PROCESS_NAME") if master else None
    if master is None or name is None:
        return None
    line = (snapshot.process(identity) for identity in master.ancestors)
    daemon = next((found for found in line if found and _is_supervisord(found)), None)
    if daemon is None:  # reparented: nobody supervises it any more
        return None
    return _Program(
        group=master.variable("SUPERVISOR_GROUP_NAME") or name,
        name=name,
        daemon=daemon,
        configuration=_configuration(daemon),
        account=trust.owner_account(daemon.uid),
    )


def _reachable(program: _Program, master: Process | None) -> _Program:
    """The same, with the user as whom its supervisord is asked.

    Raises:
        CommandFailedError: it may not be asked, or supervisorctl would look elsewhere.
    """
    account = trust.account_for(program.daemon, master)
    path = program.configuration
    if program.title.startswith("-"):
        raise CommandFailedError("what the holder calls itself is no name of a program")
    if path is None:  # supervisorctl would read what it finds in places of its own
        raise CommandFailedError("its configuration file is not known")
    if account is None:
        trust.check_file(path)
    settings = _read(path, program.daemon.uid)
    if settings is not None and not settings.has_section("supervisorctl"):
        raise CommandFailedError(f"{path} has no section [supervisorctl]")
    return replace(program, account=account)


def _is_supervisord(process: Process) -> bool:
    return known_as(process, frozenset({"supervisord"}))


def _configuration(daemon: Process) -> str | None:
    """The file that supervisord was started with, or the first of its default places."""
    words = list(daemon.command)
    folder = daemon.cwd or "/"
    for word, following in pairwise((*words, "")):
        if word.startswith("--configuration="):
            return seen_from(folder, word.partition("=")[2])
        if word == "--configuration":
            return seen_from(folder, following)
        if (given := _short_option(word)) is not None:
            return seen_from(folder, given or following)
    places = (os.path.join(folder, name) for name in _DEFAULT_FILES)
    return next(filter(os.path.isfile, places), None)


def _short_option(word: str) -> str | None:
    """What follows `-c` in a cluster of short options (`-c`, `-cX`, `-nc`); None without one."""
    if not word.startswith("-") or word.startswith("--"):
        return None
    for place, letter in enumerate(word[1:], start=2):
        if letter == "c":
            return word[place:]
        if letter not in "nhvkts":  # the rest is that option's value
            return None
    return None


def _main_pid(program: _Program, run: CommandRunner) -> int:
    answer = ask(run, (*program.control, "pid", program.title), program.account)
    text = answer.stdout.strip()
    if not text.isdigit():
        said = (text or answer.stderr.strip()).partition("\n")[0]
        raise CommandFailedError(f"supervisorctl said: {said}")
    return int(text)


def _classification(
    holder: Holder, program: _Program, confidence: Confidence, evidence: str
) -> Classification:
    service = _service(program, confidence, evidence)
    return classification(holder, (holder.master,) if holder.master else (), service)


def _service(program: _Program, confidence: Confidence, evidence: str) -> ManagedService:
    policy = _policy(program)
    settled = policy == "autorestart=false" and confidence is Confidence.CONFIRMED
    respawn = Respawn.NO if settled else Respawn.YES
    if policy == _UNKNOWN_POLICY:
        respawn = Respawn.UNKNOWN
    return ManagedService(
        manager="supervisord",
        name=program.title,
        title=f"program {program.title}",
        policy=policy,
        respawn=respawn,
        confidence=confidence,
        keeper=str(program.daemon),
        evidence=(evidence, *([f"read {program.configuration}"] if program.configuration else [])),
        stop=(*program.control, "stop", program.title),
        start=(*program.control, "start", program.title),
        prefix=sudo_for(program.daemon),
        account=program.account,
    )


def _policy(program: _Program) -> str:
    """`autorestart=…` of the program's section; the default is `unexpected`."""
    path = program.configuration
    settings = _read(path, program.daemon.uid) if path else None
    if settings is None:
        return _UNKNOWN_POLICY
    section = _section(program, settings)
    if section is None:
        return _UNKNOWN_POLICY
    value = section.get("autorestart", "unexpected").split(";")[0].strip()
    return f"autorestart={_normal(value.lower())}"


def _section(program: _Program, settings: ConfigParser) -> SectionProxy | None:
    """The section that a program is configured in; None where there is none."""
    names = [name for name in settings.sections() if name.startswith(_PROGRAMS)]
    exact = [name for name in names if name.partition(":")[2] == program.name]
    if not settings.has_section(f"group:{program.group}"):  # then it is the program's own name
        exact += [name for name in names if name.partition(":")[2] == program.group]
    numbered = [name for name in names if program.name.startswith(name.partition(":")[2] + "_")]
    return next((settings[name] for name in (*exact, *numbered)), None)


def _normal(value: str) -> str:
    if value in {"false", "no", "off", "0"}:
        return "false"
    return "true" if value in {"true", "yes", "on", "1"} else value


def _read(path: str, uid: int | None) -> ConfigParser | None:
    """The configuration with what it includes; None where it cannot be read."""
    settings = ConfigParser(interpolation=None, strict=False, inline_comment_prefixes=(" ;", "\t;"))
    try:
        settings.read_string(trust.read_named(path, uid).decode())
        for pattern in settings.get("include", "files", fallback="").split():
            here = os.path.dirname(path)
            whole = os.path.join(here, pattern.replace("%(here)s", here))
            for each in trust.named_files(whole, uid):
                settings.read_string(trust.read_named(each, uid).decode())
    except (Error, OSError, UnicodeError, ValueError):
        return None
    return settings
