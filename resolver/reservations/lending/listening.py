"""A unix socket to listen on: one server for each address, and nothing left behind.

An address is a path, or `@NAME` in Linux's abstract namespace (unix(7)).
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.errors import UltraPortsError, UsageError
from resolver.host.paths import reach

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCK_SECONDS = 2.0  # others have the lock for as long as a bind(2) takes
_LOCK_PAUSE_SECONDS = 0.01
_NOBODY = {errno.ECONNREFUSED, errno.ENOENT}


@contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    """A listening socket, which is gone at the end, with its file.

    The file of a server that has died is taken over; that of a living one is not.

    Raises:
        UsageError: nothing can be listened on there, or it is something else than a socket.
        UltraPortsError: another server listens there.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with listener:
        if address.startswith("@"):
            _bind_name(listener, address)
            yield listener
            return
        path = _path(address)
        _bind_path(listener, path)
        own = _identity(path)
        try:
            yield listener
        finally:
            _remove(path, own)


def _bind_name(listener: socket.socket, address: str) -> None:
    if sys.platform != "linux":
        raise UsageError(f"{address!a}: there are no abstract sockets here; give a path")
    try:
        listener.bind(f"\0{address[1:]}")
        listener.listen()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise _in_use(address) from error
        raise _unusable(address, error) from error
    except ValueError as error:
        raise UsageError(f"{address!a} is no address to listen on: {error}") from error


def _path(address: str) -> Path:
    """The path without its links, of which none is a stranger's."""
    try:
        with reach(address) as place:
            return Path(place.text)
    except (OSError, ValueError) as error:
        raise _unusable(address, error) from error


def _bind_path(listener: socket.socket, path: Path) -> None:
    try:
        with _locked(path.parent):
            _make_room(path)
            listener.bind(str(path))
            listener.listen()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise _in_use(str(path)) from error
        raise _unusable(str(path), error) from error


def _make_room(path: Path) -> None:
    """Removes the socket file of a server that is no more.

    Raises:
        UsageError: it is no socket.
        UltraPortsError: somebody listens there.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UsageError(f"{str(path)!a} exists and is no socket: it is left alone")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)
        outcome = probe.connect_ex(str(path))
    if outcome not in _NOBODY:  # EAGAIN is a living server with a full queue
        raise _in_use(str(path))
    path.unlink(missing_ok=True)


def _remove(path: Path, own: tuple[int, int] | None) -> None:
    """Removes our own file; another server's may be there by now."""
    try:
        with _locked(path.parent):
            if own is not None and _identity(path) == own:
                path.unlink(missing_ok=True)
    except OSError:  # the directory is gone, or is ours no longer: so is the file
        return


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Only one server at a time looks whether a file is stale (flock(2) on the directory)."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(opened)
        yield
    finally:
        os.close(opened)


def _lock(opened: int) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:  # a stranger's: it would keep us for ever
                return
            time.sleep(_LOCK_PAUSE_SECONDS)
        except OSError:  # a file system without locks
            return
        else:
            return


def _in_use(address: str) -> UltraPortsError:
    return UltraPortsError(f"another server listens on {address}")


def _unusable(address: str, error: OSError | ValueError) -> UsageError:
    why = error.strerror if isinstance(error, OSError) else None
    return UsageError(f"cannot listen on {address!a}: {why or error}")
