"""Environment variables over the project file over the standard ports → a `Project`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from resolver.errors import UsageError
from resolver.model import ANY_IPV6, Binding, PortNumber, PortRequest
from resolver.portspec import MAX_PORT
from resolver.project import file, location, reading, variables
from resolver.project.checked import shown
from resolver.project.model import STANDARD_ORIGIN, Project, Service
from resolver.settings import ENVIRONMENT_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


STANDARD = {"api": 8085, "frontend": 3000, "redis": 6379, "modelrunner": 12434}
"""The services that are known without a project file. Docker Model Runner's TCP port is 12434."""
_ONLY_READ = "ports and names are read from {}, and no command of it is run"


def load(start: Path, environ: Mapping[str, str], without: Callable[[str], str] = str) -> Project:
    """The project that the absolute directory `start` belongs to.

    A service's port is decided by its variable in the environment, else in the root's `.env`, else
    by the table of `ULTRA_PORTS_ENV` in the project file, else by the file's own port. `without`
    takes out of the text of `.env` what shall not count.

    Raises:
        UsageError: the project file, `.env` or a variable makes no sense.
    """
    found, notes = file.find(start)
    root = found.path.parent if found else location.root(start)
    chosen = environ.get(ENVIRONMENT_VARIABLE, "")
    local, left_out = _dotenv(root, start, environ, without)
    notes += left_out
    if found and (found.exports or found.env_files) and (why := reading.doubt(found.path)):
        notes += (f"export and env_files of {found.path} are left out: {why}",)
        found = replace(found, exports=(), env_files=())  # a variable may say what is run
    used = [*([found.path] if found else []), *([root / ".env"] if local else [])]
    services = tuple(
        _decided(_of_environment(entry, found, chosen), environ, local)
        for entry in (found.services if found else standard())
    )
    return Project(
        name=(found.project if found else "") or root.name or "root",
        root=root,
        file=found.path if found else None,
        services=_shared(services),
        pool=found.pool if found else (),
        environment=chosen,
        exports=found.exports if found else (),
        env_files=found.env_files if found else (),
        notes=(*notes, *reading.notes_on_owners(used, _ONLY_READ)),
    )


def standard() -> tuple[Service, ...]:
    """The services that every project has as long as it names none."""
    requests = {name: PortRequest(PortNumber(port)) for name, port in STANDARD.items()}
    return tuple(
        Service(name, request, file.default_variable(name), STANDARD_ORIGIN, request)
        for name, request in requests.items()
    )


def _shared(services: tuple[Service, ...]) -> tuple[Service, ...]:
    """The services; those that are in each other's way have a note that says so.

    That is no error: they may well run at different times, and the port can be freed all the same.
    """
    noted = []
    for service in services:
        names = [each.name for each in services if each is service or _meet(each, service)]
        note = f"{' and '.join(names)} have one port: {service.request}"
        noted.append(replace(service, notes=(*service.notes, note)) if names[1:] else service)
    return tuple(noted)


def _meet(one: Service, other: Service) -> bool:
    first, second = one.request, other.request
    return any(
        each.meets(Binding(held.transport, held.address or ANY_IPV6, held.port))
        for each, held in ((first, second), (second, first))
    )


def _dotenv(
    root: Path, start: Path, environ: Mapping[str, str], without: Callable[[str], str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """What stands in the root's `.env`, or why that is left out."""
    path = root / ".env"
    if not location.exists(path):
        return {}, ()
    if why := location.objection(path, start):
        return {}, (f"{path} is left out: {why}",)
    text = without(reading.read(path, "surrogateescape"))
    try:
        return variables.parse(text, environ), ()
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _of_environment(service: Service, found: file.Contents | None, chosen: str) -> Service:
    """The service with the port that it has in the chosen environment, as yet without variables."""
    if not found or not chosen:
        return service
    if chosen not in found.environments:
        known = ", ".join(sorted(found.environments)) or "none"
        raise UsageError(
            f"{ENVIRONMENT_VARIABLE} is {chosen!a}: {found.path} has no such environment "
            f"(there are: {known})"
        )
    port = found.environments[chosen].get(service.name)
    if port is None:
        return service
    request = replace(service.request, port=PortNumber(port))
    origin = f"environments.{chosen} in {found.path.name}"
    return replace(service, request=request, origin=origin)


def _decided(service: Service, environ: Mapping[str, str], local: Mapping[str, str]) -> Service:
    """The service with the port that its variable says."""
    for values, whence in ((environ, "the environment"), (local, ".env")):
        text = values.get(service.variable, "").strip()
        if not text:
            continue
        where = f"{service.variable} in {whence}"
        if "://" in text:  # REDIS_PORT=tcp://10.0.0.3:6379, from a linked container or Kubernetes
            note = f"{where} is {shown(text)}, an address of a linked service: left out"
            service = replace(service, notes=(*service.notes, note))
            continue
        request = replace(service.request, port=_port(text, where))
        decided = values is environ
        return replace(service, request=request, origin=where, by_environment=decided)
    return service


def _port(text: str, where: str) -> PortNumber:
    digits = text.lstrip("0")[:6]  # of a number of 5000 digits
    if not (text.isascii() and text.isdecimal() and 1 <= int(digits or 0) <= MAX_PORT):
        raise UsageError(f"{where} is {shown(text)}: a port from 1 to {MAX_PORT} is wanted")
    return PortNumber(int(digits))
