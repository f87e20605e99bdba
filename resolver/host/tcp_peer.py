"""Whose the other end of a TCP connection is, where that is on this machine too."""

from __future__ import annotations

import socket
import struct
import sys

from resolver.host.netlink import ask

# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h: one socket by its two ends
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_QUESTION = struct.Struct("=BBBxI2s2s16s16sI8s")
_ANSWER = struct.Struct("=BBBB2s2s16s16sI8sIIIII")
_ALL_STATES = 0xFFFFFFFF
_NO_COOKIE = b"\xff" * 8


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
            _ALL_STATES,
            *(end[1].to_bytes(2, "big") for end in (peer, own)),
            *(socket.inet_pton(connection.family, end[0]) for end in (peer, own)),
            0,
            _NO_COOKIE,
        )
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as netlink:
            fields = _ANSWER.unpack_from(ask(netlink, _SOCK_DIAG_BY_FAMILY, request))
    except (OSError, struct.error):
        return None
    uid, inode = fields[-2:]
    return uid if inode else None  # a socket that nobody has open any more counts as root's
