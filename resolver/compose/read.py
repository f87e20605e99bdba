"""What a compose project would publish: compose's own answer where there is one, else our reader's.

Our reader is run beside the plug-in too: the answer does not tell which variables were not set, nor
the lines of the files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from resolver.compose import plugin, reader
from resolver.compose.model import ComposeProject
from resolver.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from resolver.compose.model import ComposeArguments, ComposeService, Published
    from resolver.protocols import CommandRunner


def read(
    arguments: ComposeArguments, environ: Mapping[str, str], cwd: Path, run: CommandRunner
) -> ComposeProject:
    """The project that compose would start from `cwd`.

    Args:
        arguments: the command line's.
        environ: the environment that `run` gives to commands.
        cwd: the absolute directory where `run` runs them.
        run: runs the plug-in.

    Raises:
        UsageError: there is no such project, or a file of it makes no sense.
    """
    if "-" in arguments.files:
        reader.place.find(arguments, environ, cwd)  # refuses it
    try:
        answer = plugin.ask(arguments, run)
    except plugin.PluginAbsentError as error:
        project = reader.read(arguments, environ, cwd)
        note = f"compose could not be asked ({error}): its files were read by {reader.SOURCE}"
        return replace(project, notes=(note, *project.notes, *_exposed(project.services)))
    except UsageError as error:
        raise UsageError(f"{error}{_ours(arguments, environ, cwd)}") from error
    return _both(answer, arguments, environ, cwd)


def _ours(arguments: ComposeArguments, environ: Mapping[str, str], cwd: Path) -> str:
    """What our reader says of files that compose does not take: it knows the line."""
    try:
        reader.read(arguments, environ, cwd)
    except UsageError as error:
        return f" ({error})"
    return ""


def _both(
    answer: plugin.Answer, arguments: ComposeArguments, environ: Mapping[str, str], cwd: Path
) -> ComposeProject:
    """Compose's answer, with what only our reader can tell."""
    source = " ".join(answer.command)
    try:
        found = reader.place.find(arguments, environ, cwd)
    except UsageError as error:  # a remote file
        note = f"which files these are, and which variables are not set, was not checked: {error}"
        return ComposeProject(answer.name, cwd, (), answer.services, source, (note,))
    notes = found.notes
    services = answer.services
    try:
        project = reader.read(arguments, environ, cwd)
    except UsageError as error:
        notes += (f"which variables are not set was not checked: {error}",)
    else:
        services = tuple(_told(service, project.services) for service in services)
    return ComposeProject(
        answer.name,
        found.working_dir,
        found.files,
        services,
        source,
        (*notes, *_exposed(services)),
    )


def _told(service: ComposeService, ours: tuple[ComposeService, ...]) -> ComposeService:
    """The service with the places and variables of those of its entries that our reader has too."""
    known = {
        _key(entry): entry for each in ours if each.name == service.name for entry in each.published
    }
    published = tuple(
        replace(
            entry, text=same.text, unset=same.unset, exposed_by=same.exposed_by, where=same.where
        )
        if (same := known.get(_key(entry)))
        else entry
        for entry in service.published
    )
    return replace(service, published=published)


def _key(entry: Published) -> tuple[object, ...]:
    return (entry.target, entry.first, entry.last, entry.address, entry.transport, entry.trouble)


def _exposed(services: tuple[ComposeService, ...]) -> tuple[str, ...]:
    """A note for each entry that lost its address with a variable."""
    return tuple(
        f"{entry.service}: {' and '.join(entry.exposed_by)} is not set, or empty: {entry.text} "
        "would be published on every address"
        for service in services
        for entry in service.published
        if entry.exposed_by
    )
