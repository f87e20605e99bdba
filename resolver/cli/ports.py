"""`ultra-ports resolve` and `ultra-ports who`: their options, for typer."""

from __future__ import annotations

from typing import Annotated

import typer

from resolver.cli import answers, commands
from resolver.cli.compose_options import Files, Profiles, ProjectName, arguments_of
from resolver.cli.options import (
    PORT_HELP,
    DockerTimeout,
    Force,
    Grace,
    Json,
    NoDocker,
    Quiet,
    Settle,
    Verbose,
)
from resolver.compose.model import ComposeArguments
from resolver.errors import UsageError

EPILOG = commands.EPILOG


def resolve(
    ports: Annotated[list[str] | None, typer.Argument(metavar="[PORT...]", help=PORT_HELP)] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="The port of every service of the project file.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Say what would be done, and do nothing.")
    ] = False,
    plan_out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="As --dry-run; also write the plan, for `apply`. - is stdout."
        ),
    ] = None,
    json: Json = False,
    grace: Grace = 5.0,
    settle: Settle = 1.0,
    stop_services: Annotated[
        bool, typer.Option("--stop-services", help="Also run the manager's own stop command.")
    ] = False,
    force: Force = False,
    interactive: Annotated[
        bool, typer.Option("--interactive", "-i", help="Ask before each step.")
    ] = False,
    no_docker: NoDocker = False,
    docker_timeout: DockerTimeout = 2.0,
    compose: Annotated[
        bool, typer.Option("--compose", help="Also what others hold of a compose project's ports.")
    ] = False,
    file: Files = None,
    profile: Profiles = None,
    project: ProjectName = "",
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Examples:

    \b
      ultra-ports resolve 8085
      ultra-ports resolve 8085 5432/udp 127.0.0.1:9000 3000-3010
      ultra-ports resolve api frontend
      ultra-ports resolve --dry-run 8085
      ultra-ports resolve --stop-services 8085
      ultra-ports resolve --plan-out plan.json 8085
      ultra-ports resolve --compose -f compose.yml

    Frees the ports, and proves it by binding them.
    """  # noqa: D415, D301 - a help text
    arguments = arguments_of(file, profile, project)
    if compose:
        from resolver.cli.compose import resolve as resolve_project  # noqa: PLC0415 - seldom

        return resolve_project(
            arguments,
            ports or [],
            everything=everything,
            plan_out=plan_out,
            interactive=interactive,
            json=json,
            quiet=quiet,
            verbose=verbose,
            dry_run=dry_run,
            grace_seconds=grace,
            settle_seconds=settle,
            stop_services=stop_services,
            force=force,
            use_docker=not no_docker,
            docker_timeout_seconds=docker_timeout,
        )
    if arguments != ComposeArguments():
        raise UsageError("-f, --profile and --project go with --compose")
    return answers.resolve(
        ports or [],
        everything=everything,
        dry_run=dry_run,
        plan_out=plan_out,
        json=json,
        grace=grace,
        settle=settle,
        stop_services=stop_services,
        force=force,
        interactive=interactive,
        no_docker=no_docker,
        docker_timeout=docker_timeout,
        quiet=quiet,
        verbose=verbose,
    )


def who(
    ports: Annotated[list[str] | None, typer.Argument(metavar="[PORT...]", help=PORT_HELP)] = None,
    json: Json = False,
    complete: Annotated[
        bool, typer.Option("--complete", help="Look into every process, ask every engine.")
    ] = False,
    no_docker: NoDocker = False,
    docker_timeout: DockerTimeout = 2.0,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Examples:

    \b
      ultra-ports who 8085
      ultra-ports who                every port that is held
      ultra-ports who --json 8000-8999

    Says who holds the ports, what would bring them back, and what would free them.
    Touches nothing.
    """  # noqa: D415, D301 - a help text
    return answers.who(
        ports or [],
        json=json,
        complete=complete,
        no_docker=no_docker,
        docker_timeout=docker_timeout,
        quiet=quiet,
        verbose=verbose,
    )
