"""Our own reader of compose files, for machines without the plug-in, and for what it does not tell.

`place.py` finds the files, their variables and the project's name; `load.py` lays the files over
one another; `ports.py` makes `Published` of what is left. Nothing is run here, and nothing is read
but files. What is told from the plug-in's answer on purpose stands in the scenarios' table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.compose.model import ComposeProject, ComposeService
from resolver.compose.reader import check, place, ports
from resolver.compose.reader.load import Loader
from resolver.compose.reader.merge import fill
from resolver.compose.reader.tree import Budget, Table, Text
from resolver.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from resolver.compose.model import ComposeArguments

SOURCE = "ultra-ports' own reader"


def read(arguments: ComposeArguments, environ: Mapping[str, str], cwd: Path) -> ComposeProject:
    """The project that compose would see from the absolute directory `cwd`.

    Raises:
        UsageError: there is no such project, or a file of it makes no sense, with file and line.
    """
    found = place.find(arguments, environ, cwd)
    loader = Loader(found.working_dir, found.environ, Budget())
    name = _name(arguments, found, loader)
    found.environ["COMPOSE_PROJECT_NAME"] = name  # which the files may use
    model = loader.load(found.files)
    if not model:
        raise UsageError(f"{found.files[0]}: an empty compose file")
    return ComposeProject(
        name,
        found.working_dir,
        found.files,
        tuple(_services(model, _profiles(arguments, found.environ), found.working_dir)),
        SOURCE,
        (*found.notes, *check.unknown(model)),
    )


def _name(arguments: ComposeArguments, found: place.Found, loader: Loader) -> str:
    if given := place.given_name(arguments, found.environ):
        return given
    names = [
        fill(document.value["name"], found.environ, loader.budget)
        for path in found.files
        for document in loader.documents(path)
        if isinstance(document.value, Table) and isinstance(document.value.get("name"), Text)
    ]
    chosen = next((each for each in reversed(names) if each), found.working_dir.name)
    if not (name := place.normalized(chosen)):
        raise UsageError(f"{chosen!a} leaves nothing for the project's name", "-p NAME sets it")
    return name


def _profiles(arguments: ComposeArguments, environ: Mapping[str, str]) -> frozenset[str]:
    listed = environ.get("COMPOSE_PROFILES", "").split(",")
    return frozenset(arguments.profiles or (each.strip() for each in listed))


def _services(model: Table, profiles: frozenset[str], folder: Path) -> list[ComposeService]:
    """The enabled services, sorted by name."""
    return [
        ComposeService(
            name,
            tuple(ports.published(name, service.get("ports", ()), folder)),
            check.replicas(service, f"services.{name}"),
            service.get("network_mode", ""),
        )
        for name, service in sorted(model.get("services", {}).items())
        if _enabled(service.get("profiles", ()), profiles)
    ]


def _enabled(own: Sequence[str], chosen: frozenset[str]) -> bool:
    return not own or "*" in chosen or not chosen.isdisjoint(own)
