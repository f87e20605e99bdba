"""Was a program refused a port? Asked of the kernel, after the program has ended.

The kernel tells whoever listens, without privilege, of each TCP socket that it does away with
(SKNLGRP_INET_TCP_DESTROY of sock_diag(7), Linux 4.2). One that was refused by bind(2) was neither
bound nor connected to the end: it has no port of its own, and no peer. Measured on Linux 6.18: the
message is there within a millisecond of close(2), and names no process, but the user. So this is a
necessary sign, not a sufficient one: programs that only look whether there is IPv6 leave the same.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING, NamedTuple, Self

from resolver.gather.sock_diag import parse_row

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_NETLINK_SOCK_DIAG = 4  # linux/netlink.h
_TCP_DESTROYED, _TCP6_DESTROYED = 1 << 0, 1 << 2  # bits of groups 1 and 3 of linux/sock_diag.h
_HEADER = struct.Struct("=IHHII")
_BY_FAMILY = 20
_BUFFER = 1 << 20
_PATIENCE_SECONDS = 1.0
_STRAGGLERS_SECONDS = 0.05  # messages may overtake each other on their way through a work queue


class _Closed(NamedTuple):
    """A TCP socket that has gone: its ports, 0 where it had none, and its owner."""

    port: int
    peer: int
    uid: int


class ClosedSockets:
    """Listens to the end of TCP sockets in this network namespace; a context manager."""

    def __init__(self, netlink: socket.socket) -> None:
        self._netlink = netlink
        self.began = time.monotonic()

    @classmethod
    def watch(cls) -> Self | None:
        """Listens from now on; None where the kernel tells nobody."""
        if sys.platform != "linux":
            return None
        try:
            netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG)
        except OSError:
            return None
        try:
            netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            netlink.bind((0, _TCP_DESTROYED | _TCP6_DESTROYED))
        except OSError:
            netlink.close()
            return None
        return cls(netlink)

    def tell_of_a_refusal(self, ports: Collection[int]) -> bool:
        """Whether a socket of this user ended unbound, and none that was bound to any of the ports.

        False also where too much happened to keep count.
        """
        try:
            rows = list(self._until_now())
        except OSError:  # ENOBUFS: some messages were lost; or a time-out
            return False
        if any(row.port in ports for row in rows):
            return False
        ours = {os.getuid(), os.geteuid()}
        return any(not row.port and not row.peer and row.uid in ours for row in rows)

    def _until_now(self) -> Iterator[_Closed]:
        """Every message up to that of a socket which is closed here and now."""
        mark = _closed_port()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        seen = False
        while (left := deadline - time.monotonic()) > 0:
            self._netlink.settimeout(left)
            try:
                row = self._next()
            except TimeoutError:
                if seen:
                    return
                raise
            if row.port == mark and not seen:
                seen, deadline = True, time.monotonic() + _STRAGGLERS_SECONDS
            else:
                yield row

    def _next(self) -> _Closed:
        while True:
            message = self._netlink.recv(1 << 16)
            if _HEADER.unpack_from(message)[1] == _BY_FAMILY:
                row = parse_row(message[_HEADER.size :])
                return _Closed(row.source_port, row.peer_port, row.uid)

    def close(self) -> None:
        """Listens no longer."""
        self._netlink.close()


def _closed_port() -> int:
    """The port of a socket that has been bound for a moment, for us to know its message by."""
    with socket.socket(socket.AF_INET) as marker:
        marker.bind(("127.0.0.1", 0))
        port: int = marker.getsockname()[1]
    return port
