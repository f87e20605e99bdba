"""`ultra-ports apply`: does what a plan file says, if nothing has changed since it was made."""

from __future__ import annotations

from typing import Annotated

import typer

from resolver.cli import commands
from resolver.cli.answers import command_line
from resolver.cli.files import load
from resolver.cli.options import (
    DockerTimeout,
    Force,
    Grace,
    Json,
    NoDocker,
    Quiet,
    Settle,
    Verbose,
)
from resolver.cli.output import show
from resolver.cli.progress import Terminal
from resolver.errors import PlanChangedError

EPILOG = commands.EPILOG

PLAN_HELP = "What `resolve --plan-out` wrote; - is stdin."


def apply(
    plan: Annotated[str, typer.Argument(metavar="PLAN", help=PLAN_HELP)],
    json: Json = False,
    grace: Grace = 5.0,
    settle: Settle = 1.0,
    force: Force = False,
    no_docker: NoDocker = False,
    docker_timeout: DockerTimeout = 2.0,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Examples:

    \b
      ultra-ports resolve --plan-out plan.json 8085
      ultra-ports apply plan.json

    Does what the plan says, and proves the ports free by binding them. Where any
    holder has changed since, it says which, touches nothing, and exits 3.
    """  # noqa: D415, D301 - a help text
    from resolver import api  # noqa: PLC0415 - `-h` needs none of it

    terminal = Terminal(asks=False)
    try:
        report = api.apply(
            load(plan),
            observer=terminal,
            grace_seconds=grace,
            settle_seconds=settle,
            force=force,
            use_docker=not no_docker,
            docker_timeout_seconds=docker_timeout,
            again=command_line(),
        )
    except KeyboardInterrupt:
        terminal.interrupted()
        return 130
    except PlanChangedError as error:
        if json:
            show(error.report, json=True, quiet=quiet, verbose=verbose)
        raise
    show(report, json=json, quiet=quiet, verbose=verbose)
    return int(report.exit_status)
