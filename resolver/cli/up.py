"""`ultra-ports up`: preflight, resolve, `docker compose up -d`, and the proof that it answers."""

from __future__ import annotations

import sys
import tempfile
from typing import TYPE_CHECKING, Annotated

import typer

from resolver.cli import options
from resolver.cli.compose import tell
from resolver.cli.compose_options import (
    COMPOSE_EPILOG,
    Files,
    Profiles,
    ProjectName,
    arguments_of,
    resolving,
)
from resolver.cli.options import (
    DEFAULT,
    AcceptLoss,
    DockerTimeout,
    Force,
    Grace,
    Interactive,
    Json,
    Quiet,
    Settle,
    StopServices,
    Verbose,
)
from resolver.cli.output import fit, print_json
from resolver.cli.progress import Terminal
from resolver.compose.command import ComposeCommand, start
from resolver.compose.launch import launch
from resolver.errors import UsageError
from resolver.model import ExitStatus
from resolver.report.launch import envelope, text
from resolver.settings import LONGEST_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EPILOG = COMPOSE_EPILOG


def up(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- COMPOSE ARGS...]", help="For `docker compose up -d`."),
    ] = None,
    file: Files = None,
    profile: Profiles = None,
    project: ProjectName = "",
    wait: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="How long a server may take until it answers."),
    ] = 10.0,
    json: Json = False,
    grace: Grace = DEFAULT.grace_seconds,
    settle: Settle = DEFAULT.settle_seconds,
    stop_services: StopServices = False,
    accept_loss: AcceptLoss = False,
    force: Force = False,
    interactive: Interactive = False,
    docker_timeout: DockerTimeout = DEFAULT.docker_timeout_seconds,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Examples:

    \b
      ultra-ports up
      ultra-ports up -f compose.yml --profile debug
      ultra-ports up --stop-services -- --build --remove-orphans
      ultra-ports up -- web

    Frees the ports that the project needs, starts it with `docker compose up -d`, and
    proves that each published port answers from the project's own container.
    """  # noqa: D415, D301 - a help text
    if not 0 <= wait <= LONGEST_SECONDS:
        raise UsageError(f"--wait {wait:g}: a time from 0 to {LONGEST_SECONDS} seconds is wanted")
    policy = options.policy(
        grace=grace,
        settle=settle,
        stop_services=stop_services,
        accept_loss=accept_loss,
        force=force,
        docker_timeout=docker_timeout,
    )
    wanted = arguments_of(file, profile, project)
    terminal = Terminal(asks=interactive)
    try:
        run = _starter(json=json, quiet=quiet)
        done = launch(
            ComposeCommand(wanted),
            arguments or [],
            run,
            terminal,
            wait,
            resolving(wanted),
            **policy,
        )
    except KeyboardInterrupt:
        terminal.interrupted()
        return int(ExitStatus.INTERRUPTED)
    terminal.clear()
    tell(done.preflight, quiet=quiet, verbose=verbose)
    if json:
        print_json(envelope(done))
    elif not quiet or done.exit_status:
        print(fit(text(done)))
    return int(done.exit_status)


def _starter(*, json: bool, quiet: bool) -> Callable[[Sequence[str]], int]:
    """What runs compose: with our own streams, or, where nobody wants them, with neither.

    A quiet one is told what compose said when it failed. Compose's stdout is no data of ours:
    beside an envelope, it goes to stderr.
    """

    def run(argv: Sequence[str]) -> int:
        if not quiet:
            sys.stdout.flush()
            return start(argv, stdout=sys.stderr.fileno() if json else None)
        with tempfile.TemporaryFile() as said:
            status = start(argv, stdout=said.fileno(), stderr=said.fileno())
            if status:
                said.seek(0)
                print(said.read().decode(errors="replace"), end="", file=sys.stderr)
        return status

    return run
