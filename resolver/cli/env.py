"""`ultra-ports env`: what scripts and people want to know of a project's variables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace

from resolver.cli import completing, say
from resolver.cli.options import PRINT_EPILOG, Json, ProjectName
from resolver.cli.output import print_json
from resolver.errors import UsageError
from resolver.json_text import Envelope
from resolver.leases.assigned import leased
from resolver.project import example as examples
from resolver.project import file
from resolver.project.names import current, working_directory
from resolver.reservations.export.derived import derived, lookup, values

if TYPE_CHECKING:
    from resolver.model import PortRequest
    from resolver.project.model import Project

EPILOG = PRINT_EPILOG


class EnvEnvelope(Envelope, frozen=True, kw_only=True, tag="ultra-ports.env/1"):
    """The answer of `env`: what was asked for, or everything, as text by its name."""

    command: str = "env"
    exit_status: int = 0
    values: dict[str, str]


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
    json: Json = False,
) -> int:
    """Examples:

    \b
      ultra-ports env api                          8085, or what it was assigned
      ultra-ports env API_URL                      http://127.0.0.1:8085
      ultra-ports env --json                       every service and variable
      ultra-ports env --example > .env.example

    Says which port a service has: the one of the environment, else the one that is leased to
    this project, else that of .env, the project file or the standard.
    """  # noqa: D415, D301 - a help text
    if example == (name is not None or json):
        raise UsageError("NAME, --example or --json is wanted", "ultra-ports env -h")
    if example:
        print(_example(), end="")
        return 0
    of, assigned, exports = _project(project)
    found = {} if name is None else {name: lookup(name, of, assigned, exports)}
    notes = (note for each in of.services if each.name == name for note in each.notes)
    say((*of.notes, *notes))
    if json:
        print_json(EnvEnvelope(values=found or values(of, assigned, exports)))
    else:
        print(*found.values())
    return 0


def _example() -> str:
    contents, notes = file.find(working_directory())
    say(notes)
    return examples.example(contents)


def _project(called: str) -> tuple[Project, dict[str, PortRequest], dict[str, str]]:
    """The project, the endpoints that are leased to it, and what it exports besides."""
    project = current()
    exports = derived(replace(project, name=called or project.name), (), os.environ)
    return project, leased(os.environ, project, called), exports
