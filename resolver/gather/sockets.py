"""The sockets on ports: from the kernel where it answers, else from psutil."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from resolver.gather import psutil_sockets, sock_diag
from resolver.model import SocketState
from resolver.settings import GATHERER_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.model import PortRequest, Socket

SERVING = frozenset({SocketState.LISTENING, SocketState.BOUND, SocketState.UNCONNECTED})


def list_sockets(
    requests: Sequence[PortRequest] | None, *, connections: bool = False
) -> tuple[Socket, ...]:
    """The sockets on the requested ports, or on every port where `requests` is None.

    `connections`: those that are connected or closing, too.
    """
    if os.environ.get(GATHERER_VARIABLE) != "psutil":
        with suppress(OSError):  # no sock_diag in this kernel, sandbox or platform
            return sock_diag.list_sockets(requests, connections=connections)
    return psutil_sockets.list_sockets(requests, connections=connections)


def silent_connections() -> frozenset[int]:
    """The connections on which not both ends have sent something; none where that is not told."""
    if os.environ.get(GATHERER_VARIABLE) != "psutil":
        with suppress(OSError):
            return sock_diag.silent_connections()
    return frozenset()


def occupying(requests: Sequence[PortRequest] | None) -> tuple[Socket, ...]:
    """What occupies the requested ports: connections only where nothing serves there."""
    if requests is not None and not requests:
        return ()
    found = list_sockets(requests)
    unserved = [each for each in requests or () if not is_served(each, found)]
    if not unserved:
        return found
    known = {(entry.binding, entry.inode) for entry in found}
    more = list_sockets(unserved, connections=True)
    return (*found, *(each for each in more if (each.binding, each.inode) not in known))


def is_served(request: PortRequest, sockets: Sequence[Socket]) -> bool:
    """Whether a socket that serves, or could begin to, is on the requested port."""
    return any(
        entry.state in SERVING and request.meets(entry.binding, v6only=entry.v6only)
        for entry in sockets
    )
