"""The nearest project file, and what stands in it, which nobody has checked yet.

`ultra-ports.toml`, or `[tool.ultra-ports]` in pyproject.toml; `location.py` knows where to look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from msgspec import DecodeError, Struct, toml

from resolver.errors import UsageError
from resolver.project.checked import checked, shown
from resolver.project.location import exists, folders, objection
from resolver.project.reading import read

if TYPE_CHECKING:
    from pathlib import Path

OWN_NAME = "ultra-ports.toml"
SHARED_NAME = "pyproject.toml"
MINE = "mine"
_TOOL = "ultra-ports"


class Resolve(Struct, frozen=True):
    """What `resolve` may do here: `only = "mine"` spares what is not this checkout's."""

    only: Literal["", "mine"] = ""


def only_mine(start: Path) -> bool:
    """Whether `resolve` spares what is not this checkout's: what else the file says does not count.

    One that cannot be read may well say so.

    Raises:
        UsageError: `resolve` makes no sense there.
    """
    try:
        path, raw, _ = nearest(start)
    except UsageError:
        return True
    if "resolve" not in raw:
        return False
    try:
        found: Resolve = checked(raw["resolve"], Resolve, "resolve")
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    return found.only == MINE


def nearest(start: Path) -> tuple[Path | None, dict[str, Any], tuple[str, ...]]:
    """The file, what stands in it, and what was left out."""
    notes: list[str] = []
    for folder in folders(start):
        for path in (folder / OWN_NAME, folder / SHARED_NAME):
            if not exists(path):
                continue
            if why := objection(path, start):
                notes.append(f"{path} is left out: {why}")
            elif (table := _own(path)) is not None:
                return path, table, tuple(notes)
    return None, {}, tuple(notes)


def _own(path: Path) -> dict[str, Any] | None:
    """What stands in the file for us; None in a pyproject.toml that has nothing to say."""
    try:
        raw: dict[str, Any] = toml.decode(read(path))
    except (DecodeError, ValueError, RecursionError) as error:  # integers of 5000 digits
        raise UsageError(f"{path} is not TOML: {error}") from error
    if path.name == OWN_NAME:
        return raw
    tools = raw.get("tool")
    own = tools.get(_TOOL) if isinstance(tools, dict) else None
    if own is not None and not isinstance(own, dict):
        raise UsageError(f"{path}: tool.{_TOOL}: expected `object`, got {shown(own)}")
    return own
