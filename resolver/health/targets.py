"""Arguments → what is to be checked, and why a command that a project file names is not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from resolver import portspec
from resolver.compose import files
from resolver.compose.command import ComposeCommand
from resolver.compose.model import ComposeArguments
from resolver.errors import UsageError
from resolver.health.model import Target
from resolver.leases.assigned import with_leases
from resolver.portspec import is_name
from resolver.project.load import load
from resolver.project.names import working_directory
from resolver.project.reading import doubt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from resolver.project.model import Probe, Project, Service


class Targets(Struct, frozen=True):
    """What is to be checked, each once, in the order given; and what is to be said beside it."""

    wanted: tuple[Target, ...]
    notes: tuple[str, ...] = ()


def targets(
    arguments: Iterable[str | int], environ: Mapping[str, str], probe: Probe | None = None
) -> Targets:
    """Every port and service of the arguments; none asks for every service of the project.

    Args:
        arguments: numbers, text in the PORT grammar, or names of services.
        environ: may decide a service's port.
        probe: is used instead of every service's own.

    Raises:
        UsageError: an argument is neither a port nor the name of a service, or there is none and no
            project file either.
    """
    items = [item for each in arguments for item in portspec.items(str(each))]
    if any(not item for item in items):
        raise UsageError("'' is not a port: it is empty")
    named = not items or any(map(is_name, items))
    project = _project(environ, items) if named else None
    found: list[Target] = []
    notes: list[str] = list(project.notes) if project else []
    for service in _services(items, project):
        if isinstance(service, str):
            found += [Target("", each) for each in portspec.parse([service])]
        else:
            found.append(_of(service, project))
            notes += service.notes
    if probe is not None:  # the caller's own, whose command is nobody else's
        found = [replace(each, probe=probe, untrusted="") for each in found]
    return Targets(tuple(dict.fromkeys(found)), tuple(dict.fromkeys(notes)))


def _services(items: list[str], project: Project | None) -> Iterable[Service | str]:
    if project is None:
        return items
    if items:
        return [project.service(item) if is_name(item) else item for item in items]
    if project.file is None:
        raise UsageError(
            "no SERVICE or PORT was given, and there is no project file and no compose file in "
            f"{project.root} or above",
            "ultra-ports init writes a project file",
        )
    if not project.services:
        raise UsageError(f"{project.file} names no service")
    return project.services


def _of(service: Service, project: Project | None) -> Target:
    target = Target(service.name, service.request, service.health)
    if project is None:
        return target
    runs = service.health is not None and service.health.kind == "command"
    untrusted = doubt(project.file) if runs and project.file else ""
    place = str(project.root)
    return replace(target, place=place, project=project.name, untrusted=untrusted)


def _project(environ: Mapping[str, str], items: list[str]) -> Project:
    """The project; without a project file, its services are those that the compose file publishes.

    Raises:
        UsageError: it makes no sense, or compose does not say what it publishes.
    """
    project = with_leases(load(working_directory(), environ), environ)
    if project.file is not None or not files.find(()):
        return project
    try:
        compose = ComposeCommand(ComposeArguments()).project()
    except UsageError:
        if items:  # perhaps the names are others'
            return project
        raise
    found = compose.as_services()
    names = {each.name for each in found}
    others = (each for each in project.services if items and each.name not in names)
    return replace(
        project,
        name=compose.name,
        root=compose.working_dir,
        file=compose.files[0] if compose.files else None,
        services=(*found, *others),
        notes=(*project.notes, *compose.notes),
    )
