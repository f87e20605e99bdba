"""Prints reports: data on stdout, what is said beside it on stderr."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

from resolver.cli import fit, say, terminal_width
from resolver.host.identity import age_seconds
from resolver.json_text import encode
from resolver.project.location import working_directory
from resolver.report import machine
from resolver.report.listing import listing
from resolver.report.story import stories
from resolver.report.style import TextStyle

if TYPE_CHECKING:
    from resolver.model import Report

NOTHING_HELD, NOTHING_TO_FREE = "no port is held", "no port has to be freed"
NOTHING_LEFT = "nothing was left behind"


def show(
    report: Report,
    *,
    json: bool,
    quiet: bool,
    verbose: bool,
    lists: bool = False,
    again: tuple[str, ...] = (),
    nothing: str = NOTHING_TO_FREE,
) -> None:
    """The report on stdout, in one table where it `lists`; what is said beside it on stderr.

    `again` is the command line that does what a dry run shows; `nothing` is said of no ports.
    """
    if not (quiet and report.exit_status == 0):
        say((*report.notes, *(report.verbose_notes if verbose else ())))
    if json:
        print_json(machine.envelope(report))
    elif not quiet:
        to = style(verbose=verbose, again=again)
        lines = listing(report.ports, to) if lists and not verbose else stories(report.ports, to)
        print(fit(lines if report.ports else nothing))


def ask(question: str) -> str:
    """What somebody types behind a question on stderr; without its line's end nobody did."""
    print(f"{question} ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline()


def is_yes(answer: str) -> bool:
    """Whether it agrees; everything else does not."""
    return answer.strip().lower() in {"y", "yes"}


def print_json(envelope: object) -> None:
    """One envelope on stdout."""
    print(encode(envelope))


def style(*, verbose: bool = False, again: tuple[str, ...] = ()) -> TextStyle:
    """Stdout as it is: how wide, and whether in colour (no-color.org, force-color.org).

    `again` is the command line that does what a dry run shows.
    """
    width = terminal_width(sys.stdout)
    terminal = width is not None
    colour = bool(os.environ.get("FORCE_COLOR")) or (terminal and os.environ.get("TERM") != "dumb")
    return TextStyle(
        width,
        colour and not os.environ.get("NO_COLOR"),
        verbose,
        age_seconds,
        again=again,
        folder=working_directory() if terminal else "",
        finds=shutil.which if terminal else None,
    )
