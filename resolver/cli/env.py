"""`ultra-ports env`: what scripts and people want to know of a project's variables."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from msgspec.structs import replace

from resolver.cli import completing
from resolver.cli.options import PRINT_EPILOG, ProjectName
from resolver.cli.output import say
from resolver.errors import UsageError
from resolver.leases.assigned import leased
from resolver.project import example as examples
from resolver.project import file
from resolver.project.names import current, working_directory
from resolver.reservations.export.derived import derived
from resolver.reservations.export.lookup import lookup

EPILOG = PRINT_EPILOG


def env(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="A service (api), or a variable (API_URL).",
            autocompletion=completing.services,
        ),
    ] = None,
    example: Annotated[
        bool, typer.Option("--example", help="Print the text of .env.example.")
    ] = False,
    project: ProjectName = "",
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
    contents, notes = file.find(working_directory())
    say(notes)
    return examples.example(contents)


def _value(name: str, called: str) -> str:
    """The value to print."""
    project = current()
    exports = derived(replace(project, name=called or project.name), (), os.environ)
    found = lookup(name, project, leased(os.environ, project, called), exports)
    notes = (note for each in project.services if each.name == name for note in each.notes)
    say((*project.notes, *notes))
    return found
