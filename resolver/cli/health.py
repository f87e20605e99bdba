"""`ultra-ports health`."""

from __future__ import annotations

from typing import Annotated

import typer

from resolver.cli import completing, fit, options, say
from resolver.cli.options import DEFAULT, DockerTimeout, Json, NoDocker, ProbeText, Quiet
from resolver.cli.output import print_json, style
from resolver.health.belongs import of_this_checkout
from resolver.health.checking import check
from resolver.report.health import envelope, table
from resolver.settings import LONGEST_SECONDS

EPILOG = """\b
Exit status:
  0  every service is healthy
  1  one is not, or that cannot be told
  2  usage, or a project file that makes no sense
  130  interrupted"""


def _seconds(value: float | None) -> float | None:
    if value is not None and not 0 < value <= LONGEST_SECONDS:
        raise typer.BadParameter(
            f"{value:g} is not a time of more than 0 and at most {LONGEST_SECONDS} seconds"
        )
    return value


def health(
    wanted: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SERVICE|PORT...]",
            help="Names of services, or ports; none: all of the project or compose file.",
            autocompletion=completing.ports,
        ),
    ] = None,
    probe: ProbeText = "",
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            callback=_seconds,
            help="How long each answer may take; else the probe's own time, or 2.",
        ),
    ] = None,
    mine: Annotated[
        bool, typer.Option("--mine", help="Healthy is only what this checkout's server answers.")
    ] = False,
    json: Json = False,
    no_docker: NoDocker = False,
    docker_timeout: DockerTimeout = DEFAULT.docker_timeout_seconds,
    quiet: Quiet = False,
) -> int:
    """Examples:

    \b
      ultra-ports health                        every service of the project
      ultra-ports health api redis
      ultra-ports health 8085 [::1]:3000
      ultra-ports health --probe /healthz 8085  HEALTHCHECK of an image
      ultra-ports health --json --timeout 1

    Says who holds each port, whether that is the service's own, and what it answers.
    free -> held -> accepts -> speaks: each level includes the ones before it. Healthy is
    who gives the answer that the probe wants; without a probe, who accepts connections.
    """  # noqa: D415, D301 - a help text
    report = check(
        *(wanted or []),
        timeout_seconds=timeout,
        use_docker=not no_docker,
        docker_timeout_seconds=docker_timeout,
        probe=options.probe(probe),
    )
    if mine:
        report = of_this_checkout(report)
    if not (quiet and report.healthy):
        say(report.notes)
    if json:
        print_json(envelope(report))
    elif not quiet:
        print(fit(table(report, style().width)))
    return 0 if report.healthy else 1
