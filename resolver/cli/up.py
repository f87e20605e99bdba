"""`ultra-ports up`: preflight, resolve, `docker compose up -d`, and the proof that it answers."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace

from resolver.cli import fit, options, say
from resolver.cli.compose import EPILOG as COMPOSE_EPILOG
from resolver.cli.compose import arguments_of, beside, resolving, tell
from resolver.cli.nearest import with_nearest
from resolver.cli.output import print_json, style
from resolver.cli.progress import Terminal, describe
from resolver.compose.command import ComposeCommand, start
from resolver.compose.launch import Launch, launch
from resolver.errors import UsageError
from resolver.model import (
    Holder,
    KillStep,
    SocketState,
    StopContainerStep,
    StopServiceStep,
    Whose,
)
from resolver.ownership import ownership, viewpoint
from resolver.report.launch import envelope, text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from resolver.model import Classification, Step

EPILOG = COMPOSE_EPILOG
CONTEXT_SETTINGS = {"ignore_unknown_options": True}  # compose's own are explained


class UpTerminal(Terminal):
    """Says what is ended before it is, and asks where that is not this checkout's own."""

    def __init__(self, *, asks: bool, yes: bool, quiet: bool) -> None:
        super().__init__(asks=True)
        self._always, self._quiet = asks, quiet
        self._asks_of_others = not yes and sys.stdin.isatty() and sys.stderr.isatty()

    def objection(self, step: Step, holders: Sequence[Classification]) -> str:
        """That of whoever is asked; without anybody to ask, what is said has to do."""
        if self._always or (self._asks_of_others and not _is_own(step)):
            return super().objection(step, holders)
        if not self._quiet:
            say([f"this is ended for it: {describe(step)}"])
        return ""


def _is_own(step: Step) -> bool:
    """Whether what the step ends belongs to this checkout."""
    masters = step.masters if isinstance(step, KillStep) else ()
    if isinstance(step, StopServiceStep) and step.contained:
        return _is_own(step.contained)
    ended = step.container if isinstance(step, StopContainerStep) else None
    holder = Holder(step.bindings[0], SocketState.LISTENING, masters, container=ended)
    return ownership(holder, viewpoint(os.environ)).whose is Whose.MINE


def up(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- COMPOSE ARGS...]", help="For `docker compose up -d`."),
    ] = None,
    file: options.Files = None,
    profile: options.Profiles = None,
    project: options.ComposeProject = "",
    dry_run: options.DryRun = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask before something of others is ended.")
    ] = False,
    wait: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            callback=options.seconds,
            help="How long a server may take until it answers.",
        ),
    ] = 10.0,
    json: options.Json = False,
    grace: options.Grace = options.DEFAULT.grace_seconds,
    settle: options.Settle = options.DEFAULT.settle_seconds,
    stop_services: options.StopServices = False,
    accept_loss: options.AcceptLoss = False,
    force: options.Force = False,
    interactive: options.Interactive = False,
    docker_timeout: options.DockerTimeout = options.DEFAULT.docker_timeout_seconds,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Examples:

    \b
      ultra-ports up
      ultra-ports up -f compose.yml --profile debug
      ultra-ports up -n                          what would be ended and started
      ultra-ports up --stop-services -- --build --remove-orphans
      ultra-ports up -- web

    Frees the ports that the project needs, starts it with `docker compose up -d`, and
    proves that each published port answers from the project's own container. What is ended
    is said before; on a terminal you are asked where it is not this checkout's own. Where
    there is none, as in a pipe or in CI, nobody is asked: -n shows what would be ended.
    """  # noqa: D415, D301 - a help text
    policy = options.policy(
        grace=grace,
        settle=settle,
        stop_services=stop_services,
        accept_loss=accept_loss,
        force=force,
        docker_timeout=docker_timeout,
        dry_run=dry_run,
    )
    before, behind = options.split(arguments)
    if any(word.startswith("-") for word in before):
        typed = shlex.join([*before, *behind])
        raise UsageError(
            f"{before[0]} is no option of ours; those of `docker compose up` go behind --",
            f"ultra-ports up -- {typed}",
        )
    wanted = arguments_of(file, profile, project)
    run = _starter(json=json, quiet=quiet)
    with UpTerminal(asks=interactive, yes=yes, quiet=quiet) as terminal:
        done = launch(
            ComposeCommand(wanted),
            [*before, *behind],
            run,
            terminal,
            wait,
            resolving(wanted),
            **policy,
        )
    terminal.clear()
    tell(done.preflight, quiet=quiet, verbose=verbose)
    if done.exit_status and (json or not quiet):
        done = _with_nearest(done)
    if json:
        print_json(envelope(done))
    elif not quiet or done.exit_status:
        print(
            fit(text(done, style(verbose=verbose, again=options.in_earnest() if dry_run else ())))
        )
    return int(done.exit_status)


def _with_nearest(done: Launch) -> Launch:
    """The same, with a free port beside each that is in the way."""
    if done.freed is None:
        return replace(done, preflight=beside(done.preflight, use_docker=True))
    held = [port.request for port in done.freed.ports if port.verdict.stays_held]
    return replace(done, freed=with_nearest(done.freed, held, use_docker=True, runs=False))


def _starter(*, json: bool, quiet: bool) -> Callable[[Sequence[str]], int]:
    """What runs compose: with our own streams, or, where nobody wants them, with neither.

    A quiet one is told what compose said when it failed. Compose's stdout is no data of ours:
    beside an envelope, it goes to stderr.
    """

    def run(argv: Sequence[str]) -> int:
        if not quiet:
            sys.stdout.flush()
            return start(argv, stdout=sys.stderr.fileno() if json else None)
        with tempfile.TemporaryFile() as output:
            status = start(argv, stdout=output.fileno(), stderr=output.fileno())
            if status:
                output.seek(0)
                print(output.read().decode(errors="replace"), end="", file=sys.stderr)
        return status

    return run
