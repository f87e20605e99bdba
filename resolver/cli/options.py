"""Options that several commands have, for typer."""

from __future__ import annotations

from typing import Annotated

import typer

from resolver.settings import LONGEST_SECONDS

PRINT_EPILOG = """\b
Exit status:
  0  printed
  1  the store of reservations cannot be read
  2  usage, or a project file that makes no sense"""

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
