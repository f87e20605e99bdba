"""`ultra-ports config`: every setting, its value, and where that came from."""

from __future__ import annotations

import difflib
import os
from typing import TYPE_CHECKING, Annotated

import typer

from resolver.cli import say
from resolver.cli.output import print_json
from resolver.errors import UltraPortsError
from resolver.leases.scope import current, kind
from resolver.leases.state import state_directory
from resolver.project.names import current as current_project
from resolver.report.settings import Row, SettingsEnvelope, hidden_password, table
from resolver.settings import (
    HOST_VARIABLE,
    SCOPE_VARIABLE,
    SETTINGS,
    STATE_VARIABLE,
    STORE_VARIABLE,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.project.model import Project

_PREFIX = "ULTRA_PORTS_"
_ENVIRONMENT, _DEFAULT = "environment", "default"


def config(
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> int:
    """Examples:

    \b
      ultra-ports config
      ultra-ports config --json

    Shows what holds in this directory. Makes nothing, and asks nobody.
    """  # noqa: D415, D301 - a help text
    project = current_project()
    rows = (*_variables(project), *_project(project), *_services(project))
    say([*project.notes, *(note for each in project.services for note in each.notes)])
    say([*_strangers(), *_mistakes()])
    if json:
        print_json(SettingsEnvelope(settings=rows))
    else:
        print(table(rows))
    return 0


def _variables(project: Project) -> Iterator[Row]:
    for name, setting in SETTINGS.items():
        given = os.environ.get(name, "").strip()
        shown, origin = given or setting.default, _ENVIRONMENT if given else _DEFAULT
        if name == STATE_VARIABLE:
            shown, origin = _state(project)
        elif name == STORE_VARIABLE:
            shown = hidden_password(given) or "the ledger in the state directory"
        elif name == HOST_VARIABLE:
            shown = given or "made of the machine-id"
        yield Row(name, shown, origin, setting.description)


def _state(project: Project) -> tuple[str, str]:
    found = state_directory(os.environ, lambda: project.root)
    origin = _ENVIRONMENT if found.origin == STATE_VARIABLE else found.origin
    return f"none: {found.reason}" if found.reason else str(found.path), origin


def _project(project: Project) -> Iterator[Row]:
    source = str(project.file) if project.file else _DEFAULT
    pool = ", ".join(f"{first}-{last}" for first, last in project.pool)
    named = project.name != project.root.name
    yield Row("project", project.name, source if named else "directory", "the project's name")
    yield Row("root", str(project.root), "directory", "the project's place")
    file = str(project.file or "")
    yield Row("file", file, "directory" if file else _DEFAULT, "the project file")
    yield Row("pool", pool, source if pool else _DEFAULT, "the ports that are assigned first")
    try:
        scope = current({**os.environ, SCOPE_VARIABLE: "machine"})
    except UltraPortsError as error:
        scope = f"none: {error}"
    yield Row("scope", scope, "machine", "the name of this network namespace's ports")


def _services(project: Project) -> Iterator[Row]:
    for service in project.services:
        what = f"the port of {service.name}, by {service.variable}"
        yield Row(service.name, str(service.request), service.origin, what)


def _strangers() -> Iterator[str]:
    """Variables that look like settings, and are none."""
    for name in sorted(os.environ):
        if name.startswith(_PREFIX) and name not in SETTINGS:
            near = difflib.get_close_matches(name, SETTINGS, 1)
            meant = f"; {near[0]} was meant?" if near else ""
            yield f"{name} is no setting{meant}"


def _mistakes() -> Iterator[str]:
    """Settings whose value the commands that use them would refuse."""
    try:
        kind(os.environ)
    except UltraPortsError as error:
        yield f"{SCOPE_VARIABLE}: {error}"
