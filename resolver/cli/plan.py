"""`ultra-ports apply`: does what a plan file says, if nothing has changed since it was made."""

from __future__ import annotations

from typing import Annotated

import typer

from resolver import api
from resolver.cli import options
from resolver.cli.files import load
from resolver.cli.output import show
from resolver.cli.progress import Terminal
from resolver.errors import PlanChangedError

EPILOG = options.APPLY_EPILOG

PLAN_HELP = "What `resolve --plan-out` wrote; - is stdin."


def apply(
    plan: Annotated[str, typer.Argument(metavar="PLAN", help=PLAN_HELP)],
    json: options.Json = False,
    grace: options.Grace = options.DEFAULT.grace_seconds,
    settle: options.Settle = options.DEFAULT.settle_seconds,
    force: options.Force = False,
    no_docker: options.NoDocker = False,
    docker_timeout: options.DockerTimeout = options.DEFAULT.docker_timeout_seconds,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Examples:

    \b
      ultra-ports resolve --plan-out plan.json 8085
      ultra-ports apply plan.json

    Does what the plan says, and proves the ports free by binding them. Where any
    holder has changed since, it says which, touches nothing, and exits 3.
    """  # noqa: D415, D301 - a help text
    policy = options.policy(
        grace=grace, settle=settle, force=force, no_docker=no_docker, docker_timeout=docker_timeout
    )
    try:
        with Terminal(asks=False) as terminal:
            report = api.apply(load(plan), observer=terminal, **policy)
    except PlanChangedError as error:
        if json:
            show(error.report, json=True, quiet=quiet, verbose=verbose)
        raise
    show(report, json=json, quiet=quiet, verbose=verbose)
    return int(report.exit_status)
