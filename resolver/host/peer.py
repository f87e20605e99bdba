"""Who is at the other end of a socket of this machine, by the kernel's word."""

from __future__ import annotations

import os
import socket
import struct
import sys

from msgspec import Struct

from resolver.host import netlink
from resolver.model import Pid

_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid (unix(7), SO_PEERCRED)

# linux/inet_diag.h: one socket by its two ends
_QUESTION = struct.Struct("=BBBxI2s2s16s16sI8s")
_ANSWER = struct.Struct("=BBBB2s2s16s16sI8sIIIII")


class Listener(Struct, frozen=True):
    """The process and the user that called listen(2) on a socket; None where that is not told.

    Under socket activation it is PID 1, and PID 0 stands for a process of another PID namespace.
    """

    pid: Pid | None = None
    uid: int | None = None


def listener(path: str, timeout_seconds: float) -> Listener:
    """Who listens at a unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(timeout_seconds)
        try:
            probe.connect(path)
        except (OSError, ValueError):  # ValueError: a zero byte in the path
            return Listener()
        return behind(probe)


def behind(connection: socket.socket) -> Listener:
    """Who listens at the other end of a connection to a unix socket."""
    if sys.platform != "linux":
        return Listener()
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return Listener()
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return Listener(Pid(pid), uid)


def owner_uid(path: str) -> int | None:
    """The user that a socket's file belongs to: mostly who bound it, and nobody else could.

    For where the listener cannot be asked for: this user may not connect, its queue is full, it has
    gone, or the platform does not tell.
    """
    try:
        return os.stat(path).st_uid
    except (OSError, ValueError):
        return None


def uid_of_peer(connection: socket.socket) -> int | None:
    """The user whose socket is at the other end, by the kernel's word (sock_diag(7)).

    None where that is another machine or network namespace, the peer has closed it, or the system
    does not say.
    """
    if sys.platform != "linux":
        return None
    try:
        peer, own = connection.getpeername(), connection.getsockname()
        request = _QUESTION.pack(
            connection.family,
            socket.IPPROTO_TCP,
            0,
            netlink.ALL_STATES,
            *(end[1].to_bytes(2, "big") for end in (peer, own)),
            *(socket.inet_pton(connection.family, end[0]) for end in (peer, own)),
            0,
            netlink.NO_COOKIE,
        )
        fields = _ANSWER.unpack_from(netlink.sock_diag_one(request))
    except (OSError, struct.error):
        return None
    uid, inode = fields[-2:]
    return uid if inode else None  # a socket that nobody has open any more counts as root's
