"""Environment variables over the project file over the standard ports → a `Project`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver import dotenv
from resolver.errors import UsageError
from resolver.model import PortNumber, PortRequest
from resolver.portspec import MAX_PORT
from resolver.project import file
from resolver.project.model import Project, Service
from resolver.settings import ENVIRONMENT_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

STANDARD = {"api": 8085, "frontend": 3000, "redis": 6379, "modelrunner": 12434}
"""The services that are known without a project file. Docker Model Runner's TCP port is 12434."""
STANDARD_ORIGIN = "standard port"


def load(start: Path, environ: Mapping[str, str]) -> Project:
    """The project that the absolute directory `start` belongs to.

    A service's port is decided by its variable in the environment, else in the root's `.env`, else
    by the table of `ULTRA_PORTS_ENV` in the project file, else by the file's own port.

    Raises:
        UsageError: the project file, `.env` or a variable makes no sense.
    """
    found = file.find(start)
    root = found.path.parent if found else file.root(start)
    entries = found.services if found else _standard()
    chosen = environ.get(ENVIRONMENT_VARIABLE, "")
    local = _dotenv(root, environ)
    services, notes = [], []
    for entry in entries:
        standard = _of_environment(entry, found, chosen)
        service, note = _decided(standard, environ, local)
        services.append(service)
        notes += [note] if note else []
    return Project(
        name=(found.project if found else "") or root.name or "root",
        root=root,
        file=found.path if found else None,
        services=tuple(services),
        pool=found.pool if found else (),
        environment=chosen,
        notes=tuple(notes),
    )


def _standard() -> tuple[file.Entry, ...]:
    return tuple(
        file.Entry(name, PortRequest(PortNumber(port)), file.default_variable(name))
        for name, port in STANDARD.items()
    )


def _dotenv(root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    path = root / ".env"
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    try:
        return dotenv.parse(text, environ)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _of_environment(entry: file.Entry, found: file.Contents | None, chosen: str) -> Service:
    """The service with the port that it has in the chosen environment, as yet without variables."""
    origin = found.path.name if found else STANDARD_ORIGIN
    request = entry.request
    if found and chosen:
        if chosen not in found.environments:
            known = ", ".join(sorted(found.environments)) or "none"
            raise UsageError(
                f"{ENVIRONMENT_VARIABLE} is {chosen!a}: {found.path} has no such environment "
                f"(there are: {known})"
            )
        if (port := found.environments[chosen].get(entry.name)) is not None:
            request = replace(request, port=PortNumber(port))
            origin = f"environments.{chosen} in {found.path.name}"
    return Service(entry.name, request, entry.variable, origin, entry.request, entry.health)


def _decided(
    service: Service, environ: Mapping[str, str], local: Mapping[str, str]
) -> tuple[Service, str]:
    """The service with the port that its variable says, and what is to be said of that."""
    for values, place in ((environ, "the environment"), (local, ".env")):
        text = values.get(service.variable, "").strip()
        if not text:
            continue
        where = f"{service.variable} in {place}"
        if "://" in text:  # REDIS_PORT=tcp://10.0.0.3:6379, from a linked container or Kubernetes
            return service, f"{where} is {text!a}, an address of a linked service: left out"
        if not (text.isascii() and text.isdecimal() and 1 <= int(text[:6]) <= MAX_PORT):
            raise UsageError(f"{where} is {text!a}: a port from 1 to {MAX_PORT} is wanted")
        request = replace(service.request, port=PortNumber(int(text)))
        return replace(service, request=request, origin=where), ""
    return service, ""
