"""The files of the ledger: made for the right users, locked, and set aside."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_POLL_SECONDS = 0.005
_SIDES = ("-wal", "-shm", "-journal", "")  # the file itself last: it is what is found damaged


def make(path: Path, mode: int | None) -> int:
    """Opens a file, and makes it where it is missing, with this mode; None: for this user alone.

    It belongs to whom its directory belongs: with `sudo` the home may still be the user's own.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        pass
    descriptor = _created(path, mode)
    if os.geteuid() == 0:
        folder = path.parent.stat()
        os.fchown(descriptor, folder.st_uid, folder.st_gid)
    return descriptor


def _created(path: Path, mode: int | None) -> int:
    """In one step: there is no moment at which other users find it and may not open it."""
    before = os.umask(0)
    try:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_CREAT
        return os.open(path, flags, 0o600 if mode is None else mode)
    finally:
        os.umask(before)


def lock(descriptor: int, how: int, deadline: float) -> bool:
    """Whether the lock was to be had before the deadline."""
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        else:
            return True


def move_aside(path: Path) -> str:
    """Renames a ledger with all that belongs to it; returns its new name."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    names = (
        f"{path.name}.damaged-{stamp}{more}" for more in ("", *(f"-{n}" for n in range(2, 99)))
    )
    name = next(each for each in names if not path.with_name(each).exists())
    for side in _SIDES:
        with suppress(FileNotFoundError):
            path.with_name(path.name + side).rename(path.with_name(name + side))
    return name


def is_full(path: Path) -> bool:
    """Whether the file system that this file is on has no room left for this user."""
    try:
        return os.statvfs(path.parent).f_bavail == 0
    except OSError:
        return False
