"""Where a project is: its directory, and which files in it or above it are read at all.

A project file above the working directory is a stranger's to write in shared places. It may name
ports that shall be freed and commands that ask whether a service works, so it is read only where
somebody put it there whom the user trusts already.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def folders(start: Path) -> Iterator[Path]:
    """`start` and the directories above it, as far as a project may reach; the nearest first.

    The repository's root, the home directory and the file system's root are the last ones.
    """
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises where there is none
    for folder in (start, *start.parents):
        yield folder
        if exists(folder / ".git") or str(folder) == home:
            return


def root(start: Path) -> Path:
    """The repository's root above `start`, or `start` where there is none."""
    above = (each for each in folders(start) if exists(each / ".git"))
    return next((each for each in above if not _for_everybody(each)), start)


def objection(path: Path, start: Path) -> str:
    """Why the file is not the user's own affair; empty where it is.

    In `start` itself everything is, as for make(1), unless everybody may write there. Above, it has
    to belong to the user, to root, to who called sudo, or to the owner of `start`, who is another
    one where a CI job runs as root in a checkout that somebody else made. A link counts like the
    file it leads to. A file above in a directory like /tmp is nobody's project file.
    """
    open_to_all = _for_everybody(path.parent)
    if path.parent == start and not open_to_all:
        return ""
    if path.parent != start and open_to_all:
        return f"everybody may write to {path.parent}"
    try:
        owners = {path.stat().st_uid, path.lstat().st_uid}
        caller = os.environ.get("SUDO_UID", "") if os.geteuid() == 0 else ""
        known = {0, os.geteuid(), *([int(caller)] if caller.isdecimal() else [])}
        known |= set() if open_to_all else {start.stat().st_uid}
    except OSError:
        return ""  # it cannot be looked at: reading it will say why
    return "" if owners <= known else "it belongs to another user"


def working_directory() -> str:
    """The working directory; empty where it was deleted."""
    try:
        return os.getcwd()  # noqa: PTH109 - a text
    except OSError:
        return ""


def exists(path: Path) -> bool:
    """Whether there is such a file; where it may not be asked, there is none."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Whether there is such a regular file; where it may not be asked, there is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _for_everybody(folder: Path) -> bool:
    try:
        return bool(folder.stat().st_mode & stat.S_IWOTH)
    except OSError:
        return True
