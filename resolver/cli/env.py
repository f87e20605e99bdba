"""`ultra-ports env`: what scripts and people want to know of a project's variables."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from resolver.cli.options import PRINT_EPILOG
from resolver.errors import UsageError

EPILOG = PRINT_EPILOG


def env(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="A service (api), or a variable of one (API_URL)."),
    ] = None,
    example: Annotated[
        bool, typer.Option("--example", help="Print the text of .env.example.")
    ] = False,
    project: Annotated[
        str, typer.Option(metavar="NAME", help="The project's name, in place of its own.")
    ] = "",
) -> int:
    """Examples:

    \b
      ultra-ports env api                          8085, or what it was assigned
      ultra-ports env API_URL                      http://127.0.0.1:8085
      ultra-ports env --example > .env.example

    Says which port a service has: the one of the environment, else the one that is leased to
    this project, else that of .env, the project file or the standard.
    """  # noqa: D415, D301 - a help text
    if example == (name is not None):
        raise UsageError("one of NAME and --example is wanted", "ultra-ports env -h")
    print(_example() if name is None else _value(name, project), end="" if example else "\n")
    return 0


def _example() -> str:
    from resolver.project import example, file  # noqa: PLC0415 - seldom
    from resolver.project.names import working_directory  # noqa: PLC0415

    contents, notes = file.find(working_directory())
    _say(notes)
    return example.example(contents)


def _value(name: str, called: str) -> str:
    """The value to print."""
    from resolver.leases.assigned import leased  # noqa: PLC0415 - seldom
    from resolver.project.names import current  # noqa: PLC0415
    from resolver.reservations.telling.lookup import lookup  # noqa: PLC0415

    project = current()
    found = lookup(name, project, leased(os.environ, project, called))
    notes = (note for each in project.services if each.name == name for note in each.notes)
    _say((*project.notes, *notes))
    return found


def _say(notes: tuple[str, ...]) -> None:
    from resolver.report.escape import escape  # noqa: PLC0415 - seldom

    for note in notes:
        print(f"ultra-ports: {escape(note, 400)}", file=sys.stderr)
