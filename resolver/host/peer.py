"""Who listens behind a unix socket."""

from __future__ import annotations

import socket
import struct
import sys

from resolver.model import Pid

_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid (unix(7), SO_PEERCRED)


def listener_pid(path: str, timeout_seconds: float) -> Pid | None:
    """The process that called listen(2) on the socket; None where that cannot be told.

    Under socket activation it is PID 1, and 0 stands for a process of another PID namespace.
    """
    found = _credentials(path, timeout_seconds)
    return Pid(found[0]) if found else None


def listener_uid(path: str, timeout_seconds: float) -> int | None:
    """The user that called listen(2) on the socket; None where that cannot be told."""
    found = _credentials(path, timeout_seconds)
    return found[1] if found else None


def _credentials(path: str, timeout_seconds: float) -> tuple[int, int, int] | None:
    if sys.platform != "linux":
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(timeout_seconds)
        try:
            probe.connect(path)
            raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return None
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return pid, uid, gid
