"""What compose itself says of a project: `docker compose config --format json`.

Its answer has everything resolved, and leaves unchecked what the engine will refuse (see
`reader/published.py`). The words of its messages are quoted, and never decided on.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from resolver.compose.model import ComposeService
from resolver.compose.reader.published import publish
from resolver.errors import CommandFailedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.compose.model import ComposeArguments, Published
    from resolver.model import Completed
    from resolver.protocols import CommandRunner

COMMANDS = (("docker", "compose"), ("docker-compose",))
VERSION_SECONDS = 5.0  # a plug-in on a slow disk; it answers in 50 ms
CONFIG_SECONDS = 20.0  # it reads files, and whatever they include
_OLDEST = 2  # the first version that is a plug-in; 1.29 is another program with another grammar
_VERSION = re.compile(r"v?([0-9]+)\.[0-9]+")
_LOGGED = re.compile(r"(?:time=\S+ )?level=(?:warning|info|debug) ")  # logfmt, as logrus writes it
_LONGEST = 300  # characters of a message


class Answer(Struct, frozen=True):
    """What the command said of a project."""

    command: tuple[str, ...]
    name: str
    services: tuple[ComposeService, ...]


class PluginAbsentError(CommandFailedError):
    """There is no compose command, or none that is new enough and answers."""


def ask(arguments: ComposeArguments, run: CommandRunner) -> Answer:
    """What compose makes of the project in this process's directory and environment.

    Raises:
        UsageError: it does not take the files; the message has what it said.
        PluginAbsentError: there is no compose to ask, or it did not answer so as to be understood.
    """
    command = _find(run)
    question = (*command, *_options(arguments), "config", "--format", "json")
    try:
        done = run(question, timeout_seconds=CONFIG_SECONDS)
    except CommandFailedError as error:
        raise PluginAbsentError(str(error)) from error
    if done.status < 0:  # a signal ended it: that says nothing of the files
        raise PluginAbsentError(f"{' '.join(command)} was ended by signal {-done.status}")
    if done.status:
        raise UsageError(f"{' '.join(command)}: {_said(done)}")
    return _answer(question, done.stdout)


def _find(run: CommandRunner) -> tuple[str, ...]:
    """The command of a compose that is new enough."""
    reasons = []
    for command in COMMANDS:
        try:
            done = run((*command, "version", "--short"), timeout_seconds=VERSION_SECONDS)
        except CommandFailedError as error:
            reasons.append(str(error))
            continue
        version = _VERSION.match(done.stdout.strip())
        if not done.status and version and int(version[1]) >= _OLDEST:
            return command
        reasons.append(f"{' '.join(command)} is missing or too old")
    raise PluginAbsentError("; ".join(reasons))


def _options(arguments: ComposeArguments) -> tuple[str, ...]:
    options: list[str] = []
    for file in arguments.files:
        options += ["--file", file]
    for profile in arguments.profiles:
        options += ["--profile", profile]
    if arguments.project:
        options += ["--project-name", arguments.project]
    return tuple(options)


def _said(done: Completed) -> str:
    """Its message in one line, without what it logged on the way."""
    lines = [line.strip() for line in done.stderr.splitlines()]
    message = " ".join(line for line in lines if line and not _LOGGED.match(line))
    message = message or f"it ended with status {done.status}, and said nothing"
    return message if len(message) <= _LONGEST else f"{message[:_LONGEST]}..."


# --- its answer -----------------------------------------------------------------------------------


def _answer(question: tuple[str, ...], text: str) -> Answer:
    try:
        given = json.loads(text)
        services = tuple(
            _service(name, service)
            for name, service in sorted((given.get("services") or {}).items())
        )
        return Answer(question, str(given["name"]), services)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise PluginAbsentError(f"{' '.join(question[:2])} answered with nonsense") from error


def _service(name: str, given: dict[str, Any]) -> ComposeService:
    replicas = given.get("scale")
    if replicas is None:
        replicas = (given.get("deploy") or {}).get("replicas")
    return ComposeService(
        name,
        tuple(_published(name, given.get("ports") or [])),
        1 if replicas is None else max(0, int(replicas)),
        str(given.get("network_mode") or ""),
    )


def _published(service: str, entries: list[dict[str, Any]]) -> Iterator[Published]:
    for entry in entries:
        # A port 0 of the container is left out, as Go's JSON leaves out every zero.
        target = int(entry.get("target", 0))
        host_port, address = str(entry.get("published", "")), str(entry.get("host_ip", ""))
        transport = str(entry.get("protocol", ""))
        text = _written(target, host_port, address, transport)
        yield publish(service, target, host_port, address, transport, text)


def _written(target: int, host_port: str, address: str, transport: str) -> str:
    """The entry in the short form."""
    host = f"[{address}]" if ":" in address and not address.startswith("[") else address
    port = f"{host}:{host_port}:{target}" if host else f"{host_port}:{target}"
    return f"{port if host or host_port else target}/{transport or 'tcp'}"
