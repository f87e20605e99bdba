"""How compose is run on a project: which command it is, what it would start, and `up` itself.

The command is run with the caller's own streams; whether to run it is decided elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from resolver.compose import plugin
from resolver.errors import CommandFailedError, UsageError
from resolver.host.runner import run_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.compose.model import ComposeArguments

_CONFIG = ("config", "--format", "json")
_ASK_SECONDS = 10.0


def command(arguments: ComposeArguments) -> tuple[str, ...]:
    """How a command line begins that runs compose on the project: the words that read it.

    Raises:
        CommandFailedError: there is no compose here that could start anything.
        UsageError: it does not take the project's files.
    """
    try:
        answer = plugin.ask(arguments, run_command)
    except plugin.PluginAbsentError as error:
        raise CommandFailedError(
            f"there is no compose, version 2 or later, to start the project with: {error}",
            "https://docs.docker.com/compose/install/",
        ) from error
    return answer.command[: -len(_CONFIG)]


def check_options(words: Sequence[str], arguments: Sequence[str]) -> None:
    """Lets compose read the options of `up` without doing anything: `--help` comes last.

    Raises:
        UsageError: it does not know one of them.
    """
    options = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    if not any(word.startswith("-") for word in options):
        return
    done = run_command((*words, "up", "--detach", *options, "--help"), timeout_seconds=_ASK_SECONDS)
    if done.status:
        said = done.stderr.strip().splitlines() or ["compose does not take these options"]
        raise UsageError(said[0], "docker compose up --help")


def with_dependencies(words: Sequence[str], services: Sequence[str]) -> tuple[str, ...]:
    """The named services and those that they depend on, as compose would start them.

    Raises:
        UsageError: compose knows no such service, or does not say.
    """
    done = run_command((*words, *_CONFIG, *services), timeout_seconds=_ASK_SECONDS)
    try:
        found: dict[str, Any] = json.loads(done.stdout)["services"] if not done.status else {}
    except (ValueError, KeyError, TypeError):
        found = {}
    if not found:
        said = done.stderr.strip().splitlines() or ["compose says nothing"]
        raise UsageError(said[-1])
    return tuple(found)


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
        CommandFailedError: it could not be run.
    """
    try:
        child = subprocess.Popen(list(argv), stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)
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
