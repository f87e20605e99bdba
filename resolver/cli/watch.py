"""`ultra-ports watch`: what happens to ports, as a live view, as lines, or as JSON lines."""

from __future__ import annotations

import os
import select
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from resolver.cli import fit, live, options, say
from resolver.cli.options import NoDocker, Ports
from resolver.health.watch import Watch
from resolver.json_text import encode
from resolver.leases import assigned
from resolver.project import names
from resolver.report.events import envelope, line

if TYPE_CHECKING:
    from resolver.project.names import Wanted

EPILOG = """\b
Exit status:
  0    ended by q
  1    nobody reads its output any more
  2    usage
  130  interrupted"""


def watch(
    ports: Ports = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object for each event, on a line of its own.")
    ] = False,
    interval: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            callback=options.time_from(0.05, 60.0),
            help="Time between two looks.",
        ),
    ] = 0.5,
    no_docker: NoDocker = False,
) -> int:
    """Examples:

    \b
      ultra-ports watch               the project's services, else what is held
      ultra-ports watch api 5432
      ultra-ports watch --json 8000-8010 | jq .event
      ultra-ports watch > ports.log   a line for each event, with its time

    Says who takes and releases ports, who comes back and how often, and what becomes of
    reservations. On a terminal it is a live view; q ends it. Touches nothing. What comes
    and goes between two looks is not seen.
    """  # noqa: D415, D301 - a help text
    wanted = _wanted(options.wanted(ports))
    watching = Watch(
        wanted.requests if wanted else None,
        wanted.services if wanted else None,
        use_docker=not no_docker,
    )
    say(wanted.notes if wanted else ())
    try:
        if json or not _is_live():
            _lines(watching, interval, json=json)
        else:
            live.show(watching, interval)
    except KeyboardInterrupt:  # its usual end
        return 130
    finally:
        watching.close()
    return 0


def _wanted(ports: list[str]) -> Wanted | None:
    """What to watch; None: every port that is held."""
    if not ports:
        project = assigned.current()
        ports = [service.name for service in project.services] if project.file else []
    return names.wanted(ports, assigned.current) if ports else None


def _is_live() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in {"", "dumb"}


def _lines(watching: Watch, interval: float, *, json: bool) -> None:
    """Prints events until this process is interrupted, or nobody reads any more."""
    while True:
        for event in watching.look():
            print(encode(envelope(event), indent=None) if json else fit(line(event)))
        sys.stdout.flush()
        if _reader_has_gone(interval):
            raise BrokenPipeError


def _reader_has_gone(seconds: float) -> bool:
    """Waits; True as soon as the reading end of a pipe is closed, even where there is no news."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # POLLERR and POLLHUP are always told (poll(2))
    return bool(poll.poll(seconds * 1000))
