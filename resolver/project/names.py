"""Arguments that are names of services, among those that are ports → requests."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from resolver import portspec
from resolver.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.model import PortRequest
    from resolver.project.model import Project

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*", re.ASCII)  # no port begins with a letter


def requests(arguments: Iterable[str]) -> tuple[PortRequest, ...]:
    """Every requested port in the order given, each once; the project is read for names only.

    Raises:
        UsageError: an argument is neither a port nor the name of a service.
    """
    found: dict[PortRequest, None] = {}
    project: Project | None = None
    for argument in arguments:
        items = [item.strip(" ") for item in argument.split(",")]
        if not any(map(_NAME.fullmatch, items)):
            found.update(dict.fromkeys(portspec.parse([argument])))
            continue
        for item in items:
            if not _NAME.fullmatch(item):
                found.update(dict.fromkeys(portspec.parse([item])))
                continue
            project = project or current()
            found[project.service(item).request] = None
    return tuple(found)


def everything() -> tuple[PortRequest, ...]:
    """The port of every service of the project file.

    Raises:
        UsageError: there is no project file, or it names no service.
    """
    project = current()
    if project.file is None:
        raise UsageError(
            f"--all needs a project file, and there is none in {project.root} or above",
            "ultra-ports.toml names the services; see docs/port-management.md",
        )
    if not project.services:
        raise UsageError(f"{project.file} names no service")
    return tuple(dict.fromkeys(service.request for service in project.services))


def current() -> Project:
    """The project of the working directory.

    Raises:
        UsageError: the working directory is gone, or the project makes no sense.
    """
    from resolver.project.load import load  # noqa: PLC0415 - a port alone needs no TOML

    return load(working_directory(), os.environ)


def working_directory() -> Path:
    """The working directory, absolute.

    Raises:
        UsageError: it is gone.
    """
    try:
        return Path.cwd()
    except OSError as error:
        raise UsageError(f"the working directory cannot be read: {error.strerror}") from error
