"""Unix sockets of this network namespace, by the kernel's own list (sock_diag(7), unix_diag.h).

/proc/net/unix prints names as they are, and a name may have line breaks in it: whoever binds one
could write lines about other people's sockets there.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.host.netlink import attributes, dump

if TYPE_CHECKING:
    from collections.abc import Iterator

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST = struct.Struct("=BBHIIIII")
_MESSAGE = struct.Struct("=BBBBIII")
_ALL_STATES, _NO_COOKIE = 0xFFFFFFFF, 0xFFFFFFFF
_SHOW_NAME, _SHOW_PEER = 1, 4
_NAME, _PEER = 0, 2  # UNIX_DIAG_NAME, UNIX_DIAG_PEER
_ESTABLISHED, _LISTEN = 1, 10  # net/tcp_states.h


class UnixSocket(Struct, frozen=True):
    """One that has a name; an abstract one's begins with `@`.

    `peer` is the inode of the other end of a connection; 0 where there is none.
    """

    inode: int
    path: str
    listening: bool
    connected: bool
    peer: int = 0


def unix_sockets() -> tuple[UnixSocket, ...]:
    """All that have a name; none where the kernel does not say."""
    family = getattr(socket, "AF_NETLINK", None)
    if family is None:
        return ()
    try:
        with socket.socket(family, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as netlink:
            return tuple(_named(netlink))
    except OSError:
        return ()


def _named(netlink: socket.socket) -> Iterator[UnixSocket]:
    request = _REQUEST.pack(
        socket.AF_UNIX, 0, 0, _ALL_STATES, 0, _SHOW_NAME | _SHOW_PEER, _NO_COOKIE, _NO_COOKIE
    )
    for body in dump(netlink, _SOCK_DIAG_BY_FAMILY, request):
        _, _, state, _, inode, _, _ = _MESSAGE.unpack_from(body)
        found = dict(attributes(body, _MESSAGE.size))
        name = found.get(_NAME, b"")
        if name:
            path = (
                "@" + os.fsdecode(name[1:])
                if name[:1] == b"\0"
                else os.fsdecode(name.rstrip(b"\0"))
            )
            peer = int.from_bytes(found.get(_PEER, b"")[:4], sys.byteorder)
            yield UnixSocket(inode, path, state == _LISTEN, state == _ESTABLISHED, peer)
