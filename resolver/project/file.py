"""The project file: where it is, and what stands in it, checked.

`ultra-ports.toml`, or `[tool.ultra-ports]` in pyproject.toml, in the working directory or above it.
Nothing here looks at environment variables.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resolver import portspec
from resolver.errors import UsageError
from resolver.project.probe import read_probe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.model import PortRequest
    from resolver.project.model import Probe

OWN_NAME = "ultra-ports.toml"
SHARED_NAME = "pyproject.toml"
_LONGEST = 1 << 20  # bytes of a project file that anybody could mean
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_KEYS = frozenset({"project", "pool", "services", "environments"})
_SERVICE_KEYS = frozenset({"port", "protocol", "address", "variable", "health"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One service as the file has it."""

    name: str
    request: PortRequest
    variable: str
    health: Probe | None = None


@dataclass(frozen=True, slots=True)
class Contents:
    """A project file that makes sense. `environments` maps each to the ports that differ there."""

    path: Path
    project: str = ""
    pool: tuple[tuple[int, int], ...] = ()
    services: tuple[Entry, ...] = ()
    environments: dict[str, dict[str, int]] = field(default_factory=dict)


def find(start: Path) -> Contents | None:
    """The nearest project file in `start` or above it; None where there is none.

    The search ends at the repository's root, at the home directory and at the file system's root.
    A directory above that everybody may write to, such as /tmp, is passed over.

    Raises:
        UsageError: a project file cannot be read, or makes no sense.
    """
    for folder in _folders(start):
        own, shared = folder / OWN_NAME, folder / SHARED_NAME
        if _exists(own):
            return _contents(own, _load(own))
        if _exists(shared):
            tool = _table(_load(shared).get("tool", {}), shared, "tool")
            if "ultra-ports" in tool:
                return _contents(shared, _table(tool["ultra-ports"], shared, "tool.ultra-ports"))
    return None


def root(start: Path) -> Path:
    """The repository's root above `start`, or `start` where there is none."""
    return next((each for each in _folders(start) if _exists(each / ".git")), start)


def default_variable(name: str) -> str:
    """`API_PORT` for the service `api`."""
    return f"{re.sub(r'[^A-Z0-9]', '_', name.upper())}_PORT"


def _folders(start: Path) -> Iterator[Path]:
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises where there is none
    for folder in (start, *start.parents):
        if folder == start or not _for_everybody(folder):
            yield folder
        if _exists(folder / ".git") or folder == home:
            return


def _for_everybody(folder: Path) -> bool:
    try:
        return bool(folder.stat().st_mode & stat.S_IWOTH)
    except OSError:
        return True


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(_LONGEST + 1)
        if len(raw) > _LONGEST:
            raise UsageError(f"{path}: it is too long for a project file")
        return tomllib.loads(raw.decode("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from error


def _contents(path: Path, raw: dict[str, Any]) -> Contents:
    _only(raw, _KEYS, path, "the project file")
    services = tuple(
        _entry(path, name, value)
        for name, value in _table(raw.get("services", {}), path, "services").items()
    )
    _distinct(path, services)
    names = {each.name for each in services}
    environments = {
        name: _environment(path, name, ports, names)
        for name, ports in _table(raw.get("environments", {}), path, "environments").items()
    }
    project = raw.get("project", "")
    if not isinstance(project, str):
        raise UsageError(f"{path}: project is a name")
    return Contents(path, project, _pool(path, raw.get("pool", "")), services, environments)


def _entry(path: Path, name: str, value: object) -> Entry:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{path}: {name!a} is no name for a service (letters, digits, - and _)")
    table = value if isinstance(value, dict) else {"port": value}
    where = f"services.{name}"
    _only(table, _SERVICE_KEYS, path, where)
    if "port" not in table:
        raise UsageError(f"{path}: {where} has no port")
    variable = table.get("variable", default_variable(name))
    if not isinstance(variable, str) or not _VARIABLE.fullmatch(variable):
        raise UsageError(f"{path}: {where}.variable is no name of a variable: {variable!a}")
    try:
        health = read_probe(table["health"]) if "health" in table else None
    except UsageError as error:
        raise UsageError(f"{path}: {where}.health: {error}") from error
    return Entry(name, _request(path, where, table), variable, health)


def _request(path: Path, where: str, table: dict[str, Any]) -> PortRequest:
    text = str(table["port"])
    if isinstance(table["port"], bool) or not isinstance(table["port"], int | str):
        raise UsageError(f"{path}: {where}.port is no port: {table['port']!a}")
    if "address" in table:
        host = str(table["address"]).strip("[]")
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
        if type(port) is not int or not 1 <= port <= portspec.MAX_PORT:
            raise UsageError(f"{path}: {where}.{service} is no port: {port!a}")
    return table


def _pool(path: Path, value: object) -> tuple[tuple[int, int], ...]:
    """`"8000-8099"` or a list of such ranges."""
    texts = value if isinstance(value, list) else [value]
    ranges = []
    for text in filter(None, texts):
        first, dash, last = str(text).partition("-")
        if not (first.isdecimal() and (last.isdecimal() or not dash)):
            raise UsageError(f'{path}: pool is a range such as "8000-8099", not {text!a}')
        low, high = int(first), int(last or first)
        if not 1 <= low <= high <= portspec.MAX_PORT:
            raise UsageError(f"{path}: pool: {text!a} is no range of ports")
        ranges.append((low, high))
    return tuple(ranges)


def _table(value: object, path: Path, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{path}: {where} is a table")
    return value


def _only(table: dict[str, Any], known: frozenset[str], path: Path, where: str) -> None:
    for key in table:
        if key not in known:
            names = ", ".join(sorted(known)) or "none"
            raise UsageError(f"{path}: {where} has no {key!a} (there are: {names})")
