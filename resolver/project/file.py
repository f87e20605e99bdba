"""The project file: what stands in it, checked.

`ultra-ports.toml`, or `[tool.ultra-ports]` in pyproject.toml; `place.py` knows where to look.
Nothing here looks at environment variables.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from resolver import portspec
from resolver.errors import UsageError
from resolver.project.place import exists, folders, objection
from resolver.project.probe import read_probe, shown
from resolver.project.reading import read

if TYPE_CHECKING:
    from pathlib import Path

    from resolver.model import PortRequest
    from resolver.project.model import Probe

OWN_NAME = "ultra-ports.toml"
SHARED_NAME = "pyproject.toml"
_TOOL = "ultra-ports"
_LONGEST_NAME = 100
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_RANGE = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", re.ASCII)
_KEYS = frozenset({"project", "pool", "services", "environments"})
_SERVICE_KEYS = frozenset({"port", "protocol", "address", "variable", "health"})


class Entry(Struct, frozen=True):
    """One service as the file has it."""

    name: str
    request: PortRequest
    variable: str
    health: Probe | None = None


class Contents(Struct, frozen=True):
    """A project file that makes sense. `environments` maps each to the ports that differ there."""

    path: Path
    project: str
    pool: tuple[tuple[int, int], ...]
    services: tuple[Entry, ...]
    environments: dict[str, dict[str, int]]


def find(start: Path) -> tuple[Contents | None, tuple[str, ...]]:
    """The nearest project file in `start` or above it, or None; and what was left out, in words.

    The search ends at the repository's root, at the home directory and at the file system's root;
    what a stranger may have put there is left out (`place.objection`).

    Raises:
        UsageError: a project file cannot be read, or makes no sense.
    """
    notes: list[str] = []
    for folder in folders(start):
        for path in (folder / OWN_NAME, folder / SHARED_NAME):
            if not exists(path):
                continue
            if why := objection(path, start):
                notes.append(f"{path} is left out: {why}")
            elif (table := _own(path)) is not None:
                return contents(path, table), tuple(notes)
    return None, tuple(notes)


def default_variable(name: str) -> str:
    """`API_PORT` for the service `api`."""
    return f"{re.sub(r'[^A-Z0-9]', '_', name.upper())}_PORT"


def _own(path: Path) -> dict[str, Any] | None:
    """What stands in the file for us; None in a pyproject.toml that has nothing to say."""
    raw = _load(path)
    if path.name == OWN_NAME:
        return raw
    tool = _table(raw.get("tool", {}), path, "tool")
    return _table(tool[_TOOL], path, f"tool.{_TOOL}") if _TOOL in tool else None


def _load(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read(path))
    except (ValueError, RecursionError) as error:  # TOMLDecodeError; integers of 5000 digits
        raise UsageError(f"{path} is not TOML: {error}") from error


def contents(path: Path, raw: dict[str, Any]) -> Contents:
    """What the TOML of a project file means; `path` is for messages.

    Raises:
        UsageError: it makes no sense.
    """
    _only(raw, _KEYS, path, "the project file")
    services = tuple(
        _entry(path, name, found)
        for name, found in _table(raw.get("services", {}), path, "services").items()
    )
    _distinct(path, services)
    names = {each.name for each in services}
    environments = {
        name: _environment(path, name, ports, names)
        for name, ports in _table(raw.get("environments", {}), path, "environments").items()
    }
    project = raw.get("project", "")
    if not isinstance(project, str) or not project.isprintable() or len(project) > _LONGEST_NAME:
        raise UsageError(f"{path}: project is a name, not {shown(project)}")
    return Contents(path, project, _pool(path, raw.get("pool", "")), services, environments)


def _entry(path: Path, name: str, value: object) -> Entry:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{path}: {shown(name)} is no name of a service (letters, digits, -, _)")
    table = value if isinstance(value, dict) else {"port": value}
    where = f"services.{name}"
    _only(table, _SERVICE_KEYS, path, where)
    if "port" not in table:
        raise UsageError(f"{path}: {where} has no port")
    variable = table.get("variable", default_variable(name))
    if not isinstance(variable, str) or not _VARIABLE.fullmatch(variable):
        raise UsageError(f"{path}: {where}.variable is no name of a variable: {shown(variable)}")
    try:
        health = read_probe(table["health"]) if "health" in table else None
    except UsageError as error:
        raise UsageError(f"{path}: {where}.health: {error}") from error
    return Entry(name, _request(path, where, table), variable, health)


def _request(path: Path, where: str, table: dict[str, Any]) -> PortRequest:
    port = table["port"]
    if not (isinstance(port, str) or _is_port(port)):
        raise UsageError(f"{path}: {where}.port is no port: {shown(port)}")
    for key in ("address", "protocol"):
        if not isinstance(table.get(key, ""), str):
            raise UsageError(f"{path}: {where}.{key} is a word, not {shown(table[key])}")
    text = str(port)
    if "address" in table:
        host = table["address"].strip("[]")
        text = f"[{host}]:{text}" if ":" in host else f"{host}:{text}"
    if "protocol" in table:
        text = f"{text}/{table['protocol']}"
    try:
        found = portspec.parse([text])
    except UsageError as error:
        raise UsageError(f"{path}: {where}: {error}") from error
    if len(found) != 1:
        raise UsageError(f"{path}: {where} has one port, not a range")
    return found[0]


def _distinct(path: Path, services: tuple[Entry, ...]) -> None:
    seen: dict[str, str] = {}
    for each in services:
        if each.variable in seen:
            raise UsageError(
                f"{path}: {seen[each.variable]} and {each.name} share the variable {each.variable}"
            )
        seen[each.variable] = each.name


def _environment(path: Path, name: str, ports: object, services: set[str]) -> dict[str, int]:
    where = f"environments.{name}"
    table = _table(ports, path, where)
    _only(table, frozenset(services), path, where)
    for service, port in table.items():
        if not _is_port(port):
            raise UsageError(f"{path}: {where}.{service} is no port: {shown(port)}")
    return table


def _is_port(value: object) -> bool:
    return type(value) is int and 1 <= value <= portspec.MAX_PORT


def _pool(path: Path, value: object) -> tuple[tuple[int, int], ...]:
    """`"8000-8099"` or a list of such ranges."""
    texts = value if isinstance(value, list) else [value]
    return tuple(_range(path, text) for text in texts if text != "")


def _range(path: Path, text: object) -> tuple[int, int]:
    match = _RANGE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise UsageError(f'{path}: pool is a range such as "8000-8099", not {shown(text)}')
    low, high = int(match[1]), int(match[2] or match[1])
    if not 1 <= low <= high <= portspec.MAX_PORT:
        raise UsageError(f"{path}: pool: {shown(text)} is no range of ports")
    return low, high


def _table(value: object, path: Path, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{path}: {where} is a table")
    return value


def _only(table: dict[str, Any], known: frozenset[str], path: Path, where: str) -> None:
    for key in table:
        if key not in known:
            names = ", ".join(sorted(known)) or "none"
            raise UsageError(f"{path}: {where} has no {shown(key)} (there are: {names})")
