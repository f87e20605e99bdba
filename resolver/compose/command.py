"""The compose command: which one there is, what it says of a project, and `up`.

One `ComposeCommand` finds it with its first question, and asks each question once. The words of its
messages are quoted, and nothing is decided on them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from functools import cached_property
from typing import TYPE_CHECKING

from msgspec.structs import replace

from resolver.compose import config, files
from resolver.compose.model import ComposeArguments, ComposeProject
from resolver.errors import CommandFailedError, UsageError
from resolver.gather.engines import chosen_engine, known_engines
from resolver.host import docker_config, trust
from resolver.host.runner import run_command
from resolver.json_text import JsonError
from resolver.project.names import working_directory
from resolver.project.reading import notes_on_owners

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from resolver.compose.up_arguments import UpArguments
    from resolver.model import Completed, EngineState

COMMANDS = (("docker", "compose"), ("docker-compose",), ("podman", "compose"))
CONFIG = ("config", "--format", "json")
_OLDEST = 2  # the first version that is a plug-in; 1.29 is another program with another grammar
_VERSION_SECONDS = 5.0  # a plug-in on a slow disk; it answers in 50 ms
_CONFIG_SECONDS = 20.0  # it reads files, and whatever they include
_NO_PLUGIN = 125  # `docker` itself did not take the command line
_VERSION = re.compile(r"v?([0-9]+)\.[0-9]+")
_LOGGED = re.compile(r"(?:time=\S+ )?level=(\w+) msg=(.*)")  # logfmt, as logrus writes it
_LONGEST = 300  # characters of a message
_STARTED = "what {} says would be started with the rights of root"


class ComposeCommand:
    """Compose, for one project, in this process's directory and environment.

    Every question raises:
        UsageError: there is no compose command, or it does not take the project's files; the
            message has what it said, and names the files.
    """

    def __init__(self, arguments: ComposeArguments) -> None:
        self.arguments = arguments
        self._found: tuple[str, ...] = ()
        self._projects: dict[tuple[str, ...], ComposeProject] = {}

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The project's files, absolute; what they include is not among them."""
        return files.find(self.arguments.files)

    @property
    def engine(self) -> EngineState:
        """The engine that the found command talks to; whether it is there is not known."""
        chosen = chosen_engine()
        if self._found[:1] != ("podman",) or "DOCKER_HOST" in os.environ:
            return chosen
        runtime = "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", "/nonexistent")
        its = f"unix://{runtime.rstrip('/')}/podman/podman.sock"  # podman-system-service(1)
        return next((each for each in known_engines() if each.endpoint == its), chosen)

    def project(self, services: Sequence[str] = ()) -> ComposeProject:
        """The project, or those of its services that are named and what they depend on."""
        question = (*CONFIG, *services)
        if question not in self._projects:
            self._projects[question] = self._project(question)
        return self._projects[question]

    def selected(self, up: UpArguments) -> ComposeProject:
        """The part of the project that compose would start with these arguments."""
        project = self.project(up.services)
        scale = dict(up.scale)
        known = {service.name for service in project.services}
        if unknown := [name for name in scale if name not in known]:
            raise UsageError(f"{project.name} has no service {unknown[0]!a} that is enabled")
        services = tuple(
            replace(each, replicas=scale.get(each.name, each.replicas))
            for each in project.services
            if not (up.alone and up.services) or each.name in up.services
        )
        return replace(project, services=services)

    def all_services(self) -> frozenset[str]:
        """The names of all services, whether a profile enables them or not."""
        answer = self._ask(("config", "--services"), ("*",))
        return frozenset(answer.stdout.split())

    def check_up_options(self, arguments: Sequence[str]) -> None:
        """Lets compose read the options of `up` without doing anything: `--help` comes last."""
        options = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
        if not any(word.startswith("-") for word in options):
            return
        answer = self._answer((*self._options(()), "up", "--detach", *options, "--help"))
        if answer.status:
            lines = answer.stderr.strip().splitlines() or ["compose does not take these options"]
            raise UsageError(lines[0], f"{' '.join(self._found)} up --help")

    def up(self, arguments: Sequence[str]) -> tuple[str, ...]:
        """The command line that starts the project."""
        options = self._options(self.arguments.profiles)
        return (*self._found, *options, "up", "--detach", *arguments)

    # --- asking -----------------------------------------------------------------------------------

    def _project(self, question: tuple[str, ...]) -> ComposeProject:
        answer = self._ask(question, self.arguments.profiles)
        source = " ".join((*self._found, *self._options(self.arguments.profiles), *question))
        try:
            name, services = config.decode(answer.stdout)
        except JsonError as error:
            raise UsageError(
                f"`{source}` gave an answer that compose does not give: {error}"
            ) from error
        return ComposeProject(
            name,
            self.files[0].parent if self.files else working_directory(),
            self.files,
            services,
            source,
            tuple(f"{' '.join(self._found)}: {each}" for each in _warnings(answer)),
            (*notes_on_owners(self.files, _STARTED), *_notes_on_configuration()),
        )

    def _ask(self, question: tuple[str, ...], profiles: Sequence[str]) -> Completed:
        """What the command answers to a question about the project.

        Raises:
            UsageError: it refuses.
        """
        answer = self._answer((*self._options(profiles), *question))
        if answer.status:
            command = " ".join(self._found)
            raise UsageError(f"{command}: {_message(answer)}{self._where(answer)}")
        return answer

    def _answer(self, question: tuple[str, ...]) -> Completed:
        """Runs a question by the command, which is found by it where it is not known yet."""
        if not self._found:
            return self._find(question)
        try:
            return _run((*self._found, *question), _CONFIG_SECONDS)
        except CommandFailedError as error:
            raise UsageError(str(error), error.hint) from error

    def _find(self, question: tuple[str, ...]) -> Completed:
        """The answer of the first command that is a compose, and new enough."""
        _ = self.files  # what may not be read is refused before anything else reads it
        reasons = []
        for command in _commands():
            try:
                answer = _run((*command, *question), _CONFIG_SECONDS)
                if answer.status == 0 or (answer.status != _NO_PLUGIN and _is_compose(command)):
                    self._found = command
                    return answer
                reasons.append(f"{' '.join(command)} is missing or too old")
            except CommandFailedError as error:
                reasons.append(str(error))
        reasons += _notes_on_configuration()
        raise UsageError(
            f"there is no compose command, version 2 or later, to ask: {'; '.join(reasons)}",
            "https://docs.docker.com/compose/install/",
        )

    def _options(self, profiles: Sequence[str]) -> tuple[str, ...]:
        given = self.arguments
        options = [word for file in given.files for word in ("--file", file)]
        options += [word for profile in profiles for word in ("--profile", profile)]
        return (*options, *(("--project-name", given.project) if given.project else ()))

    def _where(self, answer: Completed) -> str:
        """The project's files, where what compose said does not name one."""
        unnamed = [str(file) for file in self.files if str(file) not in answer.stderr]
        if not self.files:
            return f" (there is no compose file in {working_directory()} or above)"
        return f" (in {', '.join(unnamed)})" if len(unnamed) == len(self.files) else ""


def _commands() -> Sequence[tuple[str, ...]]:
    """Those to ask, in turn: a docker that has no such plug-in, by all we see, is not first."""
    docker, standalone, podman = COMMANDS
    return COMMANDS if docker_config.has_plugin("compose") else (standalone, docker, podman)


def _run(argv: tuple[str, ...], timeout_seconds: float) -> Completed:
    """Runs a question.

    Raises:
        CommandFailedError: the command is missing, may not be run, or did not end by itself.
    """
    answer = run_command(argv, timeout_seconds=timeout_seconds, environment=_environment())
    if answer.status < 0:  # that says nothing of the files
        raise CommandFailedError(f"{argv[0]} was ended by signal {-answer.status}")
    return answer


def _is_compose(command: tuple[str, ...]) -> bool:
    """Whether a command that refused something is a compose that is new enough."""
    answer = _run((*command, "version", "--short"), _VERSION_SECONDS)
    version = _VERSION.match(answer.stdout.strip())
    return not answer.status and version is not None and int(version[1]) >= _OLDEST


def _strangers_configuration() -> str:
    """Why docker's configuration is not root's to use; empty where it is, or for an ordinary user.

    `sudo -E` leaves another user's HOME: plug-ins there, and folders of them that config.json
    names, would be run with the rights of root.
    """
    if os.geteuid() != 0:
        return ""
    folder = docker_config.folder()
    for path in (folder, folder / "config.json", folder / "cli-plugins" / "docker-compose"):
        there = next(each for each in (path, *path.parents) if os.path.lexists(each))
        if why := trust.weakness(str(there)):
            return why
    return ""


def _notes_on_configuration() -> tuple[str, ...]:
    why = _strangers_configuration()
    return (f"docker's configuration is not used: {why}",) if why else ()


def _environment() -> dict[str, str]:
    """What the command gets beside the caller's variables."""
    return {"DOCKER_CONFIG": "/nonexistent"} if _strangers_configuration() else {}


def _message(answer: Completed) -> str:
    """What it said in one line, without what it logged on the way."""
    lines = [line.strip() for line in answer.stderr.splitlines()]
    message = " ".join(line for line in lines if line and not _LOGGED.match(line))
    message = message or f"it ended with status {answer.status}, and said nothing"
    return message if len(message) <= _LONGEST else f"{message[:_LONGEST]}..."


def _warnings(answer: Completed) -> list[str]:
    """The warnings that it logged, each once."""
    logged = (_LOGGED.match(line.strip()) for line in answer.stderr.splitlines())
    found = dict.fromkeys(each[2] for each in logged if each and each[1] == "warning")
    return [_unquoted(each)[:_LONGEST] for each in found]


def _unquoted(text: str) -> str:
    """Go's `%q` is JSON, but for bytes that nobody can read anyhow."""
    with contextlib.suppress(ValueError):
        return str(json.loads(text))
    return text


# --- up -------------------------------------------------------------------------------------------


def start(argv: Sequence[str], stdout: int | None = None, stderr: int | None = None) -> int:
    """Runs compose with the caller's streams, and returns its exit status.

    A Ctrl-C reaches it: from the terminal, or from here where the signal was sent to us alone. It
    is given the time to end in its own way.

    Args:
        argv: the whole command.
        stdout: a descriptor for its standard output, where ours is for data.
        stderr: one for its messages.

    Raises:
        KeyboardInterrupt: after it has ended.
        CommandFailedError: it could not be run, or is not to be.
    """
    program = trust.program(argv[0])
    try:
        child = subprocess.Popen(
            list(argv),
            executable=program,
            env={**os.environ, **_environment()},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
    except OSError as error:
        raise CommandFailedError(f"{argv[0]}: {error.strerror}") from error
    with child:
        try:
            return child.wait()
        except KeyboardInterrupt:
            if not _from_terminal():
                child.send_signal(signal.SIGINT)
            child.wait()
            raise


def _from_terminal() -> bool:
    """Whether a Ctrl-C comes from a terminal, which signals the whole foreground (tty(4))."""
    for stream in (sys.__stdin__, sys.__stderr__):
        with contextlib.suppress(OSError, AttributeError, ValueError):
            if stream is not None and os.tcgetpgrp(stream.fileno()) == os.getpgrp():
                return True
    return False
