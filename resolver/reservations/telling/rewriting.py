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
import secrets
import stat
import time
from typing import TYPE_CHECKING

from resolver.errors import UltraPortsError, UsageError
from resolver.values import value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LONGEST = 8 << 20  # bytes of an environment file that anybody could mean
LOCK_SECONDS = 10.0
_POLL_SECONDS = 0.02
_ATTEMPTS = 10
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EBADF, errno.EINVAL}  # some network file systems


@value
class _Seen:
    """A file as it was read; `status` None: it did not exist."""

    raw: bytes
    status: os.stat_result | None


def read(path: Path) -> bytes:
    """The content; empty where there is no file.

    Raises:
        UsageError: it cannot be read, is no regular file, or is too long.
    """
    return _look(_target(path)).raw


def check(path: Path) -> bytes:
    """The content, as `read`, of a file that could be replaced as far as can be seen.

    Raises:
        UsageError: it cannot be read, or nothing can be written beside it.
    """
    folder = _target(path).parent
    if not folder.is_dir():
        raise UsageError(f"cannot write {path}: there is no directory {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write {path}: nothing may be written to {folder}")
    return read(path)


def update(path: Path, edit: Callable[[bytes], bytes]) -> bytes:
    """Replaces the content by what `edit` makes of it, and returns that.

    Args:
        path: need not exist; of a symbolic link, the file that it leads to is changed.
        edit: called with the content, empty where there is no file; perhaps more than once.

    Raises:
        UsageError: the file cannot be read or replaced, or `edit` says so; nothing was changed.
        UltraPortsError: others keep it busy; nothing was changed.
    """
    target = _target(path)
    try:
        with _locked(target.parent):
            for _ in range(_ATTEMPTS):
                seen = _look(target)
                new = edit(seen.raw)
                if new == seen.raw and seen.status is not None:
                    return new
                if _replaced(target, seen, new):
                    return new
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror or error}") from error
    raise UltraPortsError(f"{target} is being changed by others all the time; nothing was changed")


def _target(path: Path) -> Path:
    try:
        target = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL
        raise UsageError(f"cannot write {str(path)!a}: {error}") from error
    if target.is_symlink():  # only a loop is left as it is
        raise UsageError(f"cannot write {target}: too many levels of symbolic links")
    return target


def _look(target: Path) -> _Seen:
    try:
        with open(target, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UsageError(f"{target} is no regular file")
            raw = file.read(LONGEST + 1)
    except FileNotFoundError:
        return _Seen(b"", None)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else None
        raise UsageError(f"cannot read {target}: {why or error}") from error
    if len(raw) > LONGEST:
        raise UsageError(f"{target} is too long for an environment file")
    return _Seen(raw, status)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # for a pipe that nobody writes to


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)  # until it has the mode of the old one: it may hold secrets


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other writers of this folder out."""
    import fcntl  # noqa: PLC0415 - POSIX only

    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno in _NO_LOCKS:
                    break  # what others change meanwhile is still noticed
                if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
                    raise
            if time.monotonic() > deadline:
                raise UltraPortsError(f"another process keeps {folder} locked; nothing was changed")
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _replaced(target: Path, seen: _Seen, new: bytes) -> bool:
    """Puts the new content in place; False where somebody has changed the file meanwhile."""
    beside = target.with_name(f".{target.name[:200]}.{secrets.token_hex(6)}")
    try:
        with open(beside, "xb", opener=_private if seen.status else None) as file:
            file.write(new)
            file.flush()
            if seen.status is not None:
                _keep(target, file.fileno(), seen.status)
            os.fsync(file.fileno())
        if not _unchanged(target, seen):
            return False
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    return True


def _keep(target: Path, descriptor: int, status: os.stat_result) -> None:
    """Gives the new file the owner, the mode and the attributes of the old one."""
    ours = os.fstat(descriptor)
    if (ours.st_uid, ours.st_gid) != (status.st_uid, status.st_gid):
        try:
            os.fchown(descriptor, status.st_uid, status.st_gid)
        except PermissionError as error:
            raise UsageError(
                f"cannot write {target}: it is another user's, or group's, and would not stay so"
            ) from error
    if hasattr(os, "listxattr"):
        with contextlib.suppress(OSError):  # access control lists; security labels are the system's
            for name in os.listxattr(target):
                os.setxattr(descriptor, name, os.getxattr(target, name))
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode))


def _unchanged(target: Path, seen: _Seen) -> bool:
    try:
        now = target.stat()
    except FileNotFoundError:
        return seen.status is None
    then = seen.status
    return then is not None and _mark(now) == _mark(then)


def _mark(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
