"""Files that may be another user's: what may not be looked at is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def is_file(path: Path) -> bool:
    """Whether it is a regular file that this user can see; never an error."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def files_in(path: Path) -> list[Path]:
    """The sorted entries of a folder, the path itself where it is a file; empty where hidden."""
    try:
        return sorted(path.iterdir()) if path.is_dir() else [path]
    except (OSError, ValueError):
        return []
