"""`ultra-ports wait`: until ports are free, held or healthy; then another program, in its place."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from resolver.cli import completing, options, say
from resolver.cli.options import Json, NoDocker, ProbeText, Quiet
from resolver.cli.output import print_json
from resolver.cli.progress import StatusLine
from resolver.errors import UsageError
from resolver.health import remote
from resolver.health import wait as waiting
from resolver.health.targets import targets
from resolver.host.execute import execute
from resolver.json_text import Envelope
from resolver.leases import assigned
from resolver.project import names
from resolver.report.escape import escape
from resolver.report.events import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.health.wait import Condition, Unmet
    from resolver.project.model import Probe

EPILOG = """\b
Exit status: that of CMD, where there is one. Of ultra-ports itself:
  0    all the ports are as they shall be
  1    not in time; what is missing is said for each port
  2    usage
  4    this user may not bind a port that shall be free: it cannot be proved
  126  CMD cannot be executed
  127  CMD was not found
  130  interrupted"""

PORT_HELP = (
    "8085, 127.0.0.1:8085, [::1]:8085, 8000-8010, the name of a service (api), a comma list; or "
    "HOST:PORT of another machine, which is asked for a connection."
)
_MEANT = dict.fromkeys(("up", "open", "ready"), waiting.Until.HEALTHY.value)
"""What other tools call it."""
_ANSWERS = {waiting.Until.HEALTHY, waiting.Until.MINE}
_WITH_COMMAND = 2  # words: a port, and what may have been meant as a command
_BY_SIGNAL = 128  # as shells have it (POSIX, 2.8.2)


class WaitEnvelope(Envelope, frozen=True, kw_only=True, tag="ultra-ports.wait/1"):
    """The answer of `wait` without a program to run: what was not met in time, and why."""

    command: str = "wait"
    exit_status: int
    until: str
    seconds: float
    unmet: list[waiting.Unmet]


def wait(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PORT... [-- CMD ARG...]", help=PORT_HELP, autocompletion=completing.ports
        ),
    ] = None,
    until: Annotated[
        str,
        typer.Option(
            metavar="free|held|healthy|mine",
            help="What the ports shall be; up, open and ready mean healthy.",
            show_default=True,
        ),
    ] = waiting.Until.HEALTHY.value,
    probe: ProbeText = "",
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", callback=options.seconds, help="0: one look.")
    ] = 60.0,
    no_docker: NoDocker = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Examples:

    \b
      ultra-ports wait 8085 -- npm test              held, and answering
      ultra-ports wait 8085 --probe /healthz -- npm test
      ultra-ports wait api redis db:5432 -- ./server
      ultra-ports wait 8085 --until free --timeout 10
      ultra-ports wait 8085 --until mine -- npm test

    Waits until all the ports are healthy (as `health` says: held, and answering), free
    (bound for proof), held by anybody, or mine (healthy, and held by this checkout), all at
    one time. Then CMD takes its place, with the same PID. A port of another machine counts
    as held and as healthy when it accepts a connection.
    """  # noqa: D415, D301 - a help text
    ports, command = options.split(arguments)
    if "--" in sys.argv and not command:
        raise UsageError("there is no command behind --")
    until = _MEANT.get(until, until)
    conditions = _conditions(ports, until, options.probe(probe), use_docker=not no_docker)
    with ExitStack() as stack:
        for condition in conditions:
            stack.enter_context(closing(condition))
        begun = time.monotonic()
        unmet = _wait(conditions, timeout, until, " ".join(ports), quiet=quiet or json)
    if json and not command:
        seconds = round(time.monotonic() - begun, 3)
        answer = WaitEnvelope(
            exit_status=1 if unmet else 0, until=until, seconds=seconds, unmet=[*unmet]
        )
        print_json(answer)
    if unmet:
        for each in unmet:
            say([f"not {until} after {timeout:g} s: {each.title} {each.why}"])
        return 1
    if command:
        execute(command, os.environ)
    return 0


def _check(
    until: str, probe: Probe | None, here: Sequence[str], away: Sequence[remote.Remote]
) -> None:
    """Makes sure that what is waited for can be told.

    Raises:
        UsageError: it cannot.
    """
    objections = {
        f"--until {until!a}: expected free, held, healthy or mine": until
        not in list(waiting.Until),
        f"--probe is asked of what is healthy or mine, not of what is {until}": probe
        and until not in _ANSWERS,
        "no PORT was given": not here and not away,
    }
    if away:
        whose = f"{away[0]}, of another machine,"
        objections |= {
            f"whether {whose} is {until} cannot be told from here": until
            in {waiting.Until.FREE, waiting.Until.MINE},
            f"{whose} is only asked for a connection": probe,
        }
    options.refuse(objections)


def _conditions(
    ports: list[str], until: str, probe: Probe | None, *, use_docker: bool
) -> list[Condition]:
    try:
        return _of_ports(ports, until, probe, use_docker=use_docker)
    except UsageError as error:
        if error.hint or len(ports) < _WITH_COMMAND or "--" in sys.argv:
            raise
        raise UsageError(str(error), "a command goes behind --") from error


def _of_ports(
    ports: list[str], until: str, probe: Probe | None, *, use_docker: bool
) -> list[Condition]:
    here, away = remote.split(ports)
    _check(until, probe, here, away)
    here = options.wanted(here)
    found: list[Condition] = [remote.Accepting(away)] if away else []
    if not here:
        return found
    if until in _ANSWERS:
        asked = targets(here, os.environ, probe)
        say(asked.notes)
        health = waiting.Healthy(
            asked,
            os.environ,
            use_docker=use_docker,
            only_mine=until == waiting.Until.MINE,
        )
        return [health, *found]
    wanted = names.wanted(here, assigned.current)
    say(wanted.notes)
    if until == waiting.Until.FREE:
        return [waiting.Free(wanted, use_docker=use_docker)]
    return [waiting.Held(wanted, use_docker=use_docker), *found]


def _wait(
    conditions: Sequence[Condition], timeout: float, until: str, ports: str, *, quiet: bool
) -> tuple[Unmet, ...]:
    if os.getpid() == 1:  # the kernel keeps signals without a handler from the first process
        signal.signal(signal.SIGTERM, _terminated)
    begun = time.monotonic()
    line = StatusLine(shows=not quiet)

    def progress(unmet: Sequence[Unmet], seconds_left: float) -> None:
        what = escape(", ".join(f"{each.title} {each.why}" for each in unmet), 60)
        line.waits(f"waiting until {until}: {what}", seconds_left)

    try:
        unmet = waiting.wait(conditions, timeout, progress)
    finally:
        line.clear()
    if not unmet and not quiet:
        say([f"{until} after {duration(time.monotonic() - begun)}: {ports}"])
    return unmet


def _terminated(number: int, _: object) -> NoReturn:
    raise typer.Exit(_BY_SIGNAL + number)
