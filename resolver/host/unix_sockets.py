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

from resolver.host import netlink

if TYPE_CHECKING:
    from collections.abc import Iterator

_REQUEST = struct.Struct("=BBHIII8s")
_MESSAGE = struct.Struct("=BBBBIII")
_SHOW_NAME, _SHOW_PEER = 1, 4
_NAME, _PEER = 0, 2  # UNIX_DIAG_NAME, UNIX_DIAG_PEER


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
    try:
        return tuple(_named())
    except OSError:
        return ()


def _named() -> Iterator[UnixSocket]:
    shown = _SHOW_NAME | _SHOW_PEER
    request = _REQUEST.pack(socket.AF_UNIX, 0, 0, netlink.ALL_STATES, 0, shown, netlink.NO_COOKIE)
    for body in netlink.sock_diag(request):
        _, _, state, _, inode, _, _ = _MESSAGE.unpack_from(body)
        found = dict(netlink.attributes(body, _MESSAGE.size))
        name = found.get(_NAME, b"")
        if name:
            is_abstract = name[:1] == b"\0"
            path = "@" + os.fsdecode(name[1:]) if is_abstract else os.fsdecode(name.rstrip(b"\0"))
            peer = int.from_bytes(found.get(_PEER, b"")[:4], sys.byteorder)
            listening, connected = state == netlink.LISTEN, state == netlink.ESTABLISHED
            yield UnixSocket(inode, path, listening, connected, peer)
