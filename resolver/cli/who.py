"""`ultra-ports who`."""

from typing import Annotated

import typer

from resolver import api
from resolver.cli import options
from resolver.cli.output import NOTHING_HELD, NOTHING_LEFT, show

EPILOG = """\b
Exit status:
  0  it could answer: held or free; without a PORT, always
  1  the answer could not be printed
  2  usage
  4  a holder is hidden from this user: what to run with sudo is printed
  5  undecidable: the engine did not answer, and nothing local explains it
  130  interrupted"""


def who(
    ports: options.Ports = None,
    json: options.Json = False,
    complete: Annotated[
        bool, typer.Option("--complete", help="Look into every process, ask every engine.")
    ] = False,
    stale: options.Stale = False,
    no_docker: options.NoDocker = False,
    docker_timeout: options.DockerTimeout = options.DEFAULT.docker_timeout_seconds,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Examples:

    \b
      ultra-ports who 8085
      ultra-ports who                every port that is held
      ultra-ports who --json 8000-8999

    Says who holds the ports, what would bring them back, and what would free them.
    Touches nothing.
    """  # noqa: D415, D301 - a help text
    options.refuse({"--stale finds the ports itself": stale and ports})
    policy = options.policy(complete=complete, no_docker=no_docker, docker_timeout=docker_timeout)
    report = api.stale(**policy) if stale else api.who(*options.wanted(ports), **policy)
    show(
        report,
        json=json,
        quiet=quiet,
        verbose=verbose,
        lists=not (ports or stale),
        nothing=NOTHING_LEFT if stale else NOTHING_HELD,
    )
    return int(report.exit_status)
