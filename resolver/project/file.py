"""The project file: what stands in it, checked. `nearest_file.py` knows which one it is.

Nothing here looks at environment variables.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct

from resolver import portspec
from resolver.errors import UsageError
from resolver.project.checked import checked, shown, unknown
from resolver.project.derived import Derived, derived
from resolver.project.model import Service
from resolver.project.nearest_file import Resolve, nearest
from resolver.project.probe import read_probe

if TYPE_CHECKING:
    from pathlib import Path

    from resolver.model import PortRequest

_Port = Annotated[int, Meta(ge=1, le=portspec.MAX_PORT)]
_Range = Annotated[str, Meta(pattern=r"^[0-9]{1,5}(-[0-9]{1,5})?\Z")]  # "8000-8099"
_Text = str | list[str]


class _ProjectTable(Struct, frozen=True):
    """The whole of it; what is in tables is looked at one by one, so that errors can name it."""

    project: Annotated[str, Meta(max_length=100)] = ""
    pool: str | list[_Range] = ""
    services: dict[str, Any] = {}
    environments: dict[str, Any] = {}
    export: dict[str, Any] = {}
    env_files: list[str] = []
    resolve: Resolve = Resolve()


class _ServiceTable(Struct, frozen=True):
    """The table of a service; a port alone stands for a table with nothing else."""

    port: _Port | str
    protocol: str = ""
    address: str = ""
    variable: Annotated[str, Meta(pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?\Z")] = ""
    health: Any = None


class WholeFile(_ProjectTable, frozen=True):
    """The file with its services, for those who check it from outside, such as editors."""

    services: dict[str, _Port | str | _ServiceTable] = {}
    environments: dict[str, dict[str, _Port | str]] = {}
    export: dict[str, _Text] = {}


class Contents(Struct, frozen=True):
    """A project file that makes sense. `environments` maps each to the ports that differ there.

    `env_files` are relative to the project's root, and stay below it.
    """

    path: Path
    project: str
    pool: tuple[tuple[int, int], ...]
    services: tuple[Service, ...]
    environments: dict[str, dict[str, int]]
    exports: tuple[Derived, ...] = ()
    env_files: tuple[str, ...] = ()


def find(start: Path) -> tuple[Contents | None, tuple[str, ...]]:
    """The nearest project file in `start` or above it, or None; and what was left out, in words.

    The search ends at the repository's root, at the home directory and at the file system's root;
    what a stranger may have put there is left out (`location.objection`).

    Raises:
        UsageError: a project file cannot be read, or makes no sense.
    """
    path, raw, notes = nearest(start)
    return (contents(path, raw) if path else None), notes


def default_variable(name: str) -> str:
    """`API_PORT` for the service `api`."""
    return f"{re.sub(r'[^A-Z0-9]', '_', name.upper())}_PORT"


def contents(path: Path, raw: dict[str, Any]) -> Contents:
    """What the TOML of a project file means; `path` is for messages.

    Raises:
        UsageError: it makes no sense.
    """
    try:
        return _contents(path, raw)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _contents(path: Path, raw: dict[str, Any]) -> Contents:
    found: _ProjectTable = checked(raw, _ProjectTable, "")
    if not found.project.isprintable():
        raise UsageError(
            f"project: expected a name that can be printed, not {shown(found.project)}"
        )
    services = tuple(_entry(name, value, path.name) for name, value in found.services.items())
    seen: dict[str, str] = {}
    for each in services:
        if (other := seen.setdefault(each.variable, each.name)) != each.name:
            raise UsageError(
                f"services.{each.name}.variable: expected one of its own, since {other} and "
                f"{each.name} share the variable {each.variable}"
            )
    environments = {
        name: _environment(name, ports, found.services)
        for name, ports in found.environments.items()
    }
    pool = [found.pool] if isinstance(found.pool, str) else found.pool
    return Contents(
        path=path,
        project=found.project,
        pool=tuple(_range(text) for text in pool if text),
        services=services,
        environments=environments,
        exports=_exports(found, seen),
        env_files=tuple(map(_env_file, found.env_files)),
    )


def _entry(name: str, value: object, origin: str) -> Service:
    if not portspec.is_name(name):
        expected = "expected a name of letters, digits, - and _, which a letter begins"
        raise UsageError(f"services: {expected}: {shown(name)} is no name of a service")
    where = f"services.{name}"
    if not isinstance(value, dict):
        value = {"port": checked(value, _Port | str, where)}
    table: _ServiceTable = checked(value, _ServiceTable, where)
    health = None if table.health is None else read_probe(table.health, f"{where}.health")
    request = _request(table, where)
    variable = table.variable or default_variable(name)
    return Service(name, request, variable, origin, request, health)


def _request(table: _ServiceTable, where: str) -> PortRequest:
    host = table.address.strip("[]")
    try:
        host = f"[{host}]" if host and isinstance(ip_address(host), IPv6Address) else host
    except ValueError as error:
        message = f"{where}.address: expected an IP address, not {shown(host)}"
        raise UsageError(f"{message} (host names are not taken)") from error
    text = f"{host}:{table.port}" if host else str(table.port)
    try:
        found = portspec.parse([f"{text}/{table.protocol}" if table.protocol else text])
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    if len(found) != 1:
        raise UsageError(f"{where}: expected one port, not a range")
    return found[0]


def _exports(found: _ProjectTable, ports: dict[str, str]) -> tuple[Derived, ...]:
    """`ports`: the variables that have a port, and whose."""
    exports = []
    for name, value in found.export.items():
        where = f"export.{name}"
        exports.append(derived(name, checked(value, _Text, where), found.services))
        if name in ports:
            raise UsageError(f"{where}: expected another name: {ports[name]} has its port there")
    return tuple(exports)


def _env_file(text: str) -> str:
    parts = text.split("/")
    if not text.isprintable() or not parts[-1] or {"", "..", ".git"} & set(parts):
        expected = "a file below the project's root, such as .env or web/.env.local"
        raise UsageError(f"env_files: expected {expected}, not {shown(text)}")
    return text


def _environment(name: str, table: object, services: dict[str, Any]) -> dict[str, int]:
    where = f"environments.{name}"
    ports: dict[str, Any] = checked(table, dict[str, Any], where)
    for service in ports.keys() - services.keys():
        raise unknown(service, services, where)
    return {service: checked(port, _Port, f"{where}.{service}") for service, port in ports.items()}


def _range(text: str) -> tuple[int, int]:
    first, _, last = checked(text, _Range, "pool").partition("-")
    low, high = int(first), int(last or first)
    if not 1 <= low <= high <= portspec.MAX_PORT:
        expected = f"expected FIRST-LAST, from 1 to {portspec.MAX_PORT}"
        raise UsageError(f"pool: {expected}: {shown(text)} is no range of ports")
    return low, high
