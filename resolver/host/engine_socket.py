"""A connection to an engine's unix socket: who has to listen there, and how much it may say.

Whoever listens may be another user, and want to keep us waiting, to fill our memory, or to pass for
somebody else: the path of a socket can lead to another one from one moment to the next.
"""

from __future__ import annotations

import errno
import grp
import os
import socket
import time
from stat import S_IWGRP
from typing import Any

from resolver.errors import EngineAbsentError, EngineError, EngineNotPermittedError
from resolver.host.peer import behind

LARGEST = 1 << 26  # bytes of an answer; ten thousand containers take some 30 MB
MOST_VALUES = 2_000_000  # of an answer: decoded, each takes up to 150 bytes and a microsecond
_ABSENT = {errno.ENOENT, errno.ENOTDIR}
_NOT_PERMITTED = {errno.EACCES, errno.EPERM}


class DeadlineSocket(socket.socket):
    """A socket whose timeout is for all that is received after it was set, not for each read."""

    _end: float | None = None

    def settimeout(self, value: float | None, /) -> None:
        """As for any socket; None waits for ever, and 0 not at all."""
        super().settimeout(value)
        self._end = time.monotonic() + value if value else None

    def recv(self, *arguments: Any) -> bytes:  # noqa: ANN401 - as socket.socket has it
        """As for any socket; raises TimeoutError when the time is over."""
        self._hurry()
        return super().recv(*arguments)

    def recv_into(self, *arguments: Any) -> int:  # noqa: ANN401
        """As for any socket; this is what files that are made of a socket call."""
        self._hurry()
        return super().recv_into(*arguments)

    def _hurry(self) -> None:
        if self._end is not None:
            left = self._end - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            super().settimeout(left)


def connect(path: str, timeout_seconds: float | None, uid: int | None = None) -> DeadlineSocket:
    """A connection to the engine at the path.

    Args:
        path: of the unix socket.
        timeout_seconds: for connecting, and for the answer if nothing else is set.
        uid: the user that has to listen there; None for whoever does.

    Raises:
        EngineAbsentError: there is nothing at the path.
        EngineNotPermittedError: this user may not connect.
        EngineError: nobody listens, or somebody else does.
    """
    connection = DeadlineSocket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_seconds)
        _connect(connection, path)
        _check_listener(connection, path, uid)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(connection: socket.socket, path: str) -> None:
    try:
        connection.connect(path)
    except (TimeoutError, ValueError) as error:  # ValueError: a zero byte in the path
        raise EngineError(f"no engine answers at {path}: {error}") from error
    except OSError as error:
        if error.errno in _ABSENT:
            raise EngineAbsentError(f"there is no engine at {path}") from error
        if error.errno in _NOT_PERMITTED:
            raise EngineNotPermittedError(
                f"this user may not talk to the engine at {path}{_admitted(path)}"
            ) from error
        raise EngineError(f"no engine answers at {path}: {error}") from error


def _admitted(path: str) -> str:
    """Which group's members may; a group without a name, or root's own, is no hint."""
    try:
        seen = os.stat(path)
        name = grp.getgrgid(seen.st_gid).gr_name
    except (OSError, KeyError):
        return ""
    return f"; who is in the group {name} may" if seen.st_gid and seen.st_mode & S_IWGRP else ""


def _check_listener(connection: socket.socket, path: str, uid: int | None) -> None:
    found = behind(connection).uid
    if uid is not None and found not in {None, uid}:
        raise EngineError(f"unix://{path} is not asked: user {found} listens there, not {uid}")


def check_size(body: bytes) -> None:
    """Sees to it that decoding an answer takes a bounded amount of memory.

    Raises:
        ValueError: it is too long, or holds too many values.
    """
    if len(body) > LARGEST or sum(map(body.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise ValueError("the answer is too long")
