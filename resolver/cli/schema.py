"""`ultra-ports schema`: JSON Schemas of what this prints and reads, made of its own structs."""

from __future__ import annotations

from typing import Annotated

import typer
from msgspec import json

from resolver import planfile
from resolver.cli import env, init, serve, wait
from resolver.cli.output import print_json
from resolver.errors import UsageError
from resolver.project.file import WholeFile
from resolver.report import (
    docker_plugin,
    events,
    health,
    launch,
    machine,
    preflight,
    reservations,
    settings,
)
from resolver.reservations.export import variables

SHAPES = {
    "report": machine.ReportEnvelope,
    "preflight": preflight.PreflightEnvelope,
    "up": launch.UpEnvelope,
    "health": health.HealthEnvelope,
    "reservations": reservations.ReservationsEnvelope,
    "assignment": variables.AssignmentEnvelope,
    "run": variables.RunEnvelope,
    "env": env.EnvEnvelope,
    "wait": wait.WaitEnvelope,
    "serve": serve.ServeEnvelope,
    "init": init.InitEnvelope,
    "config": settings.SettingsEnvelope,
    "docker-plugin": docker_plugin.PluginEnvelope,
    "event": events.EventEnvelope,
    "plan": planfile.PlanFile,
    "project": WholeFile,
}
"""By name; each but the project file is tagged with the value of its `schema`."""
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help=f"{', '.join(SHAPES)}.",
            autocompletion=lambda incomplete: [it for it in SHAPES if it.startswith(incomplete)],
        ),
    ] = None,
) -> int:
    """Examples:

    \b
      ultra-ports schema               the names
      ultra-ports schema report        JSON of `who`, `resolve` and `apply`
      ultra-ports schema project       of ultra-ports.toml, for editors

    Prints the JSON Schema (draft 2020-12) of an envelope, or of the project file.
    """  # noqa: D415, D301 - a help text
    if name is None:
        print("\n".join(f"{each:<14}{schema_of(each)['title']}" for each in SHAPES))
        return 0
    if name not in SHAPES:
        raise UsageError(f"there is no schema {name[:60]!a}", f"one of {', '.join(SHAPES)}")
    print_json(schema_of(name))
    return 0


def schema_of(name: str) -> dict[str, object]:
    """The JSON Schema of an envelope, or of the project file."""
    title = SHAPES[name].__struct_config__.tag or "ultra-ports.toml"
    made = json.encode({"$schema": _DIALECT, "title": title, **json.schema(SHAPES[name])})
    # The end of a text is \Z for Python, and $ for JSON Schema (ECMA-262)
    return json.decode(made.replace(rb'\\Z"', b'$"'), type=dict[str, object])
