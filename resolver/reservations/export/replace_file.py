"""Changes a file as a whole or not at all, one writer at a time, and keeps what it was.

The new content is written beside the file and takes its place in one step; its mode, owner and
extended attributes are those of the old one, and a symbolic link stays a link. Writers wait for one
another by a lock on the directory, which leaves nothing behind; who changes the file without it,
such as an editor, is noticed, and the change is made anew.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import UltraPortsError, UsageError
from resolver.host.own_files import lock
from resolver.host.paths import Place, reach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


LONGEST = 8 << 20  # bytes of an environment file that anybody could mean
LOCK_SECONDS = 10.0
_ATTEMPTS = 10
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EBADF, errno.EINVAL}  # some network file systems


class _Seen(Struct, frozen=True):
    """A file as it was read; `status` None: it did not exist."""

    raw: bytes
    status: os.stat_result | None


def read(path: Path) -> bytes:
    """The content; empty where there is no file.

    Raises:
        UsageError: it cannot be read, is no regular file, is a stranger's, or is too long.
    """
    with _reached(path) as place:
        return _look(place).raw


def check(path: Path) -> bytes:
    """The content, as `read`, of a file that could be replaced as far as can be seen.

    Raises:
        UsageError: it cannot be read, or nothing can be written beside it.
    """
    with _reached(path) as place:
        if not os.access(".", os.W_OK | os.X_OK, dir_fd=place.folder):
            folder = os.path.dirname(place.text)  # noqa: PTH120 - a text
            raise UsageError(f"cannot write {path}: nothing may be written to {folder}")
        return _look(place).raw


def update(path: Path, edit: Callable[[bytes], bytes]) -> bytes:
    """Replaces the content by what `edit` makes of it, and returns that.

    Args:
        path: need not exist; of a symbolic link, the file that it leads to is changed.
        edit: called with the content, empty where there is no file; perhaps more than once.

    Raises:
        UsageError: the file cannot be read or replaced, or `edit` says so; nothing was changed.
        UltraPortsError: others keep it busy; nothing was changed.
    """
    with _reached(path) as place:
        try:
            with _locked(place):
                for _ in range(_ATTEMPTS):
                    seen = _look(place)
                    new = edit(seen.raw)
                    if new == seen.raw and seen.status is not None:
                        return new
                    if _replaced(place, seen, new):
                        return new
        except OSError as error:
            raise UsageError(f"cannot write {place.text}: {error.strerror or error}") from error
        said = f"{place.text} is being changed by others all the time; nothing was changed"
        raise UltraPortsError(said)


def _reached(path: Path) -> Place:
    try:
        return reach(path)
    except (OSError, ValueError) as error:  # a loop of links, a NUL, a stranger's link
        why = error.strerror if isinstance(error, OSError) else None
        raise UsageError(f"cannot write {str(path)!a}: {why or error}") from error


def _look(place: Place) -> _Seen:
    try:
        with os.fdopen(place.open(os.O_RDONLY), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UsageError(f"{place.text} is no regular file")
            raw = file.read(LONGEST + 1)
    except FileNotFoundError:
        return _Seen(b"", None)
    except OSError as error:
        raise UsageError(f"cannot read {place.text}: {error.strerror or error}") from error
    if len(raw) > LONGEST:
        raise UsageError(f"{place.text} is too long for an environment file")
    return _Seen(raw, status)


@contextlib.contextmanager
def _locked(place: Place) -> Iterator[None]:
    """Keeps other writers of this directory out."""
    descriptor = os.open(".", os.O_RDONLY | os.O_CLOEXEC, dir_fd=place.folder)
    try:
        try:
            locked = lock(descriptor, LOCK_SECONDS)
        except OSError as error:
            locked = error.errno in _NO_LOCKS  # what others change meanwhile is still noticed
            if not locked:
                raise
        if not locked:
            folder = os.path.dirname(place.text)  # noqa: PTH120 - a text
            raise UltraPortsError(f"another process keeps {folder} locked; nothing was changed")
        yield
    finally:
        os.close(descriptor)


def _replaced(place: Place, seen: _Seen, new: bytes) -> bool:
    """Puts the new content in place; False where somebody has changed the file meanwhile."""

    def ready(descriptor: int) -> bool:
        if seen.status is not None:
            _keep(place, descriptor, seen.status)
        return _unchanged(place, seen)

    # Until it has the mode of the old one it is for nobody else: it may hold secrets.
    return place.replace(new, 0o600 if seen.status else 0o666, ready)


def _keep(place: Place, descriptor: int, status: os.stat_result) -> None:
    """Gives the new file the owner, the mode and the attributes of the old one."""
    ours = os.fstat(descriptor)
    if (ours.st_uid, ours.st_gid) != (status.st_uid, status.st_gid):
        try:
            os.fchown(descriptor, status.st_uid, status.st_gid)
        except PermissionError as error:
            raise UsageError(
                f"cannot write {place.text}: it is another user's, or group's, "
                "and would not stay so"
            ) from error
    if hasattr(os, "listxattr"):
        with contextlib.suppress(OSError):  # access control lists; security labels are the system's
            _copy_attributes(place, descriptor)
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode))


def _copy_attributes(place: Place, descriptor: int) -> None:
    old = place.open(os.O_RDONLY)
    try:
        for name in os.listxattr(old):
            os.setxattr(descriptor, name, os.getxattr(old, name))
    finally:
        os.close(old)


def _unchanged(place: Place, seen: _Seen) -> bool:
    now, then = place.status(), seen.status
    if now is None or then is None:
        return now is then
    return _mark(now) == _mark(then)


def _mark(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
