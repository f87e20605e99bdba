"""`ultra-ports resolve` and `ultra-ports who`."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from typing import Annotated, Any

import typer

from resolver.cli.files import STREAM, save
from resolver.cli.output import show
from resolver.cli.progress import Terminal
from resolver.errors import UsageError
from resolver.settings import LONGEST_SECONDS

PORT_HELP = (
    "8085, 8085/udp, 127.0.0.1:8085, [::1]:8085/tcp, 8000-8010, the name of a service (api), "
    "or a comma list."
)


def _seconds(value: float) -> float:
    if not 0 <= value <= LONGEST_SECONDS:
        raise typer.BadParameter(f"{value:g} is not a time from 0 to {LONGEST_SECONDS} seconds")
    return value


Json = Annotated[bool, typer.Option("--json", help="Print one JSON envelope on stdout.")]
NoDocker = Annotated[bool, typer.Option("--no-docker", help="Do not ask any container engine.")]
DockerTimeout = Annotated[
    float,
    typer.Option(
        "--docker-timeout",
        metavar="SECONDS",
        callback=_seconds,
        help="How long an engine may take.",
    ),
]
Grace = Annotated[
    float,
    typer.Option(metavar="SECONDS", callback=_seconds, help="Time between SIGTERM and SIGKILL."),
]
Settle = Annotated[
    float,
    typer.Option(metavar="SECONDS", callback=_seconds, help="How long a freed port is watched."),
]
Force = Annotated[
    bool, typer.Option("--force", help="SIGKILL at once, bystanders included; see the README.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Also say what was left out.")]


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

    Frees the ports, and proves it by binding them.
    """  # noqa: D415, D301 - a help text
    from resolver import api  # noqa: PLC0415 - `-h` needs none of it

    if plan_out == STREAM and json:
        raise UsageError("--json and --plan-out - both want stdout")
    wanted = _wanted(ports or [], everything)
    terminal = Terminal(asks=interactive)
    options: dict[str, Any] = {
        "dry_run": dry_run,
        "grace_seconds": grace,
        "settle_seconds": settle,
        "stop_services": stop_services,
        "force": force,
        "use_docker": not no_docker,
        "docker_timeout_seconds": docker_timeout,
        "again": command_line(),
    }
    try:
        if plan_out is not None:
            report, text = api.plan(*wanted, **options)
            save(text, plan_out)
        else:
            report = api.resolve(*wanted, observer=terminal, **options)
    except KeyboardInterrupt:
        terminal.interrupted()
        return 130
    show(report, json=json, quiet=quiet or plan_out == STREAM, verbose=verbose)
    return int(report.exit_status)


def who(
    ports: Annotated[list[str] | None, typer.Argument(metavar="[PORT...]", help=PORT_HELP)] = None,
    json: Json = False,
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
    from resolver import api  # noqa: PLC0415 - `-h` needs none of it

    report = api.who(
        *_given(ports or []),
        use_docker=not no_docker,
        docker_timeout_seconds=docker_timeout,
        again=command_line(),
    )
    show(report, json=json, quiet=quiet, verbose=verbose)
    return int(report.exit_status)


def _wanted(ports: list[str], everything: bool) -> list[str]:
    if not everything:
        if not ports:
            raise UsageError("no PORT was given", "ultra-ports resolve -h shows what can be")
        return _given(ports)
    from resolver.project.names import everything as every_service  # noqa: PLC0415 - seldom

    return [*_given(ports), *map(str, every_service())]


def _given(ports: list[str]) -> list[str]:
    if any(not port for port in ports):
        raise UsageError("'' is not a port: it is empty")
    return ports


def command_line() -> str:
    """This command line as it can be typed behind sudo, which has a search path of its own."""
    name = "ultra-ports"
    path = shutil.which(name)
    if path is None and sys.argv[0].endswith(name):
        path = os.path.abspath(sys.argv[0])  # noqa: PTH100 - a link in a search path stays a link
    if path and not path.startswith(("/usr/bin/", "/usr/local/bin/")):
        name = path
    return shlex.join([name, *sys.argv[1:]])
