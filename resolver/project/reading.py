"""Files of a project, as one user reads what another may have written: `location.py` says which."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from typing import TYPE_CHECKING, BinaryIO

from resolver.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_LONGEST = 1 << 20  # bytes of a project file, or an environment file, that anybody could mean


def doubt(path: Path) -> str:
    """Why what a file says must not be run by this user; empty where it may be.

    Stricter than for reading it (`location.objection`): the file, a link to it, and its directory
    have to be this user's or root's, and not everybody may write to them. For root all directories
    above count too, since their owners can put another one there, and groups that may write. Who
    called sudo is another user: his commands would be run with more rights than he has.
    """
    euid = os.geteuid()
    try:
        above = path.parents if euid == 0 else [path.parent]
        real = path.resolve()
        further = real.parents if euid == 0 else ()
        for each in dict.fromkeys((path, real, *above, *further)):
            near = each in {path, real, path.parent}
            if why := _doubt(each, {0, euid}, near=near):
                return why
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        return f"{path} cannot be looked at: {getattr(error, 'strerror', None) or error}"
    return ""


def _doubt(path: Path, trusted: set[int], *, near: bool) -> str:
    """`near`: the file or its directory; further up, a sticky bit keeps what is there in place."""
    link, seen = path.lstat(), path.stat()
    others = {link.st_uid, seen.st_uid} - trusted
    if others:
        return f"{path} belongs to {user(max(others))}"
    kept = not near and seen.st_mode & stat.S_ISVTX
    if seen.st_mode & stat.S_IWOTH and not kept:
        return f"everybody may write to {path}"
    if os.geteuid() == 0 and seen.st_mode & stat.S_IWGRP and seen.st_gid and not kept:
        return f"group {seen.st_gid} may write to {path}"
    return ""


def notes_on_owners(files: Iterable[Path], what: str) -> tuple[str, ...]:
    """What root is told of files that are another user's: `what`, with their names for its `{}`."""
    root = os.geteuid() == 0
    doubts = {each: why for each in files if root and each.exists() and (why := doubt(each))}
    if not doubts:
        return ()
    names = " and ".join(each.name for each in doubts)
    return (f"{next(iter(doubts.values()))}: {what.format(names)}",)


def user(uid: int) -> str:
    """The name of a user, or the number of one without a name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def read(path: Path, errors: str = "strict") -> str:
    """The text of a file, which is UTF-8; `errors` is for what is not, as in `bytes.decode`.

    Raises:
        UsageError: it cannot be read, is no regular file, is too long, or is not text.
    """
    try:
        with open_regular(path) as file:
            raw = file.read(_LONGEST + 1)
        if len(raw) > _LONGEST:
            raise UsageError(f"{path} is too long: over {_LONGEST} bytes")
        return raw.decode("utf-8", errors)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8: {error}") from error


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """A regular file, opened for reading without waiting for anybody.

    For root a link of another user leads to that user's files only: what it leads to may be quoted
    in a message. What was opened is what is judged, whatever the path means by then.

    Raises:
        UsageError: it is no regular file, or such a link.
        OSError: it cannot be opened.
    """
    entry = path.lstat()
    if not stat.S_ISREG(path.stat().st_mode):  # opening a device may already do something
        raise UsageError(f"{path} is no regular file")
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    with os.fdopen(opened, "rb") as file:
        if why := _refusal(entry, os.fstat(file.fileno())):
            raise UsageError(f"{path} {why}")
        yield file


def _refusal(entry: os.stat_result, opened: os.stat_result) -> str:
    """Why a file that was opened is not read; `entry` is what had its name a moment before."""
    if not stat.S_ISREG(opened.st_mode):
        return "is no regular file"
    if os.geteuid() != 0:
        return ""
    if not stat.S_ISLNK(entry.st_mode):
        same = (entry.st_dev, entry.st_ino) == (opened.st_dev, opened.st_ino)
        return "" if same else "was replaced while it was read"
    if entry.st_uid in {0, opened.st_uid}:
        return ""
    return f"is a link of {user(entry.st_uid)}, and leads to a file of {user(opened.st_uid)}"
