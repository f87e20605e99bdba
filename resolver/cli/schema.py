"""`ultra-ports schema`: JSON Schemas of what this prints and reads, made of its own structs."""

from __future__ import annotations

from typing import Annotated

import typer
from msgspec import json

from resolver import planfile
from resolver.cli import docker_plugin, env, init, serve, wait
from resolver.cli.output import print_json
from resolver.errors import UsageError
from resolver.project.file import WholeFile
from resolver.report import events, health, launch, machine, preflight, reservations, settings
from resolver.reservations.export import variables

SHAPES = {
    "report": (machine.SCHEMA, machine.ReportEnvelope),
    "preflight": (preflight.SCHEMA, preflight.PreflightEnvelope),
    "up": (launch.SCHEMA, launch.UpEnvelope),
    "health": (health.SCHEMA, health.HealthEnvelope),
    "reservations": (reservations.SCHEMA, reservations.ReservationsEnvelope),
    "assignment": (variables.SCHEMA, variables.AssignmentEnvelope),
    "run": (variables.RUN_SCHEMA, variables.RunEnvelope),
    "env": (env.SCHEMA, env.EnvEnvelope),
    "wait": (wait.SCHEMA, wait.WaitEnvelope),
    "serve": (serve.SCHEMA, serve.ServeEnvelope),
    "init": (init.SCHEMA, init.InitEnvelope),
    "config": (settings.SCHEMA, settings.SettingsEnvelope),
    "docker-plugin": (docker_plugin.SCHEMA, docker_plugin.PluginEnvelope),
    "event": (events.SCHEMA, events.EventEnvelope),
    "plan": (planfile.SCHEMA, planfile.PlanFile),
    "project": ("ultra-ports.toml", WholeFile),
}
"""By name: the value of `schema` in each, and the struct; `project` is the project file."""
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
        print("\n".join(f"{each:<14}{text}" for each, (text, _) in SHAPES.items()))
        return 0
    if name not in SHAPES:
        raise UsageError(f"there is no schema {name[:60]!a}", f"one of {', '.join(SHAPES)}")
    print_json(schema_of(name))
    return 0


def schema_of(name: str) -> dict[str, object]:
    """The JSON Schema of an envelope, or of the project file."""
    text, shape = SHAPES[name]
    made = json.encode({"$schema": _DIALECT, "title": text, **json.schema(shape)})
    # The end of a text is \Z for Python, and $ for JSON Schema (ECMA-262)
    return json.decode(made.replace(rb'\\Z"', b'$"'), type=dict[str, object])
