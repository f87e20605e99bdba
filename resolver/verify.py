"""Verify: prove a port free by binding it, and watch that it stays so.

The proof binds each requested address plainly, which is what the strictest server would do. Only
where nothing but closed connections is left on the port does it bind with SO_REUSEADDR, as most
servers do. Watching lists sockets and binds nothing, so as not to be in a starting server's way.
"""

from __future__ import annotations

import errno
import socket
import sys
from typing import TYPE_CHECKING

from resolver.errors import UsageError
from resolver.model import ANY_IPV4, ANY_IPV6, Proof, SocketState, Transport
from resolver.settings import RELEASE_SECONDS, WATCH_INTERVAL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from resolver.model import PortRequest, Socket
    from resolver.protocols import Clock, Watcher

_KINDS = {Transport.TCP: socket.SOCK_STREAM, Transport.UDP: socket.SOCK_DGRAM}
NO_SUCH_FAMILY = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.ENOPROTOOPT}
_IN_THE_WAY = {SocketState.LISTENING, SocketState.BOUND, SocketState.UNCONNECTED}


def prove(request: PortRequest, list_sockets: Watcher) -> Proof:
    """Binds every address that the request stands for, and lets go at once.

    Raises:
        UsageError: the address is none of this machine's.
    """
    if request.address is None and _binds_both_at_once(request):
        return Proof(free=True)
    bound, lingering = False, ""
    for family, address in _addresses(request):
        outcome, left = _bind_despite_connections(request, family, address, list_sockets)
        if outcome in NO_SUCH_FAMILY and request.address is None:
            continue
        if outcome != 0:
            return _failed(request, address, outcome)
        bound, lingering = True, left or lingering
    if not bound:
        return Proof(free=None, reason="this machine has neither IPv4 nor IPv6")
    return Proof(free=True, lingering=lingering)


def _failed(request: PortRequest, address: str, number: int) -> Proof:
    where = f"[{address}]:{request.port}" if ":" in address else f"{address}:{request.port}"
    if number == errno.EADDRINUSE:
        return Proof(free=False, reason="address already in use", where=where)
    if number == errno.EACCES:
        reason = f"this user may not bind port {request.port} (privileged)"
        return Proof(free=None, reason=reason, where=where)
    if number in NO_SUCH_FAMILY:
        raise UsageError(f"{address} is not an address of this machine")
    if number == errno.EINVAL and ":" in address:
        raise UsageError(f"{address} would need a zone (%eth0), which is not supported")
    return Proof(free=None, reason=errno.errorcode.get(number, str(number)), where=where)


def _addresses(request: PortRequest) -> Iterator[tuple[socket.AddressFamily, str]]:
    if request.address is None:
        yield socket.AF_INET, ANY_IPV4
        yield socket.AF_INET6, ANY_IPV6
    elif ":" in request.address:
        yield socket.AF_INET6, request.address
    else:
        yield socket.AF_INET, request.address


def _binds_both_at_once(request: PortRequest) -> bool:
    """Whether one socket could have the port on every IPv4 and every IPv6 address.

    On Linux it collides with whatever either family has there (ipv6(7), IPV6_V6ONLY), so where it
    binds, one for each family would bind, too. Where it does not, those tell why.
    """
    if sys.platform != "linux":
        return False
    try:
        bound(request, socket.AF_INET6, ANY_IPV6).close()
    except OSError:
        return False
    return True


def _bind_despite_connections(
    request: PortRequest, family: socket.AddressFamily, address: str, list_sockets: Watcher
) -> tuple[int, str]:
    """0, or the errno of bind(2); and what connections made it bind with SO_REUSEADDR only."""
    outcome = _bind(request, family, address, reuse=False)
    if outcome == errno.EADDRINUSE and (left := _only_connections(request, list_sockets)):
        return _bind(request, family, address, reuse=True), left
    return outcome, ""


def _bind(request: PortRequest, family: socket.AddressFamily, address: str, *, reuse: bool) -> int:
    """0, or the errno of bind(2)."""
    try:
        bound(request, family, address, v6only=True, reuse=reuse).close()
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def bound(
    request: PortRequest,
    family: socket.AddressFamily,
    address: str,
    *,
    v6only: bool = False,
    reuse: bool = False,
) -> socket.socket:
    """A socket on the port, close-on-exec (PEP 446).

    `v6only` is for who asks for every address of IPv6, and `reuse` is with SO_REUSEADDR.

    Raises:
        OSError: of socket(2) or bind(2).
    """
    made = socket.socket(family, _KINDS[request.transport])
    try:
        if family == socket.AF_INET6 and request.address is None:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        if reuse:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, request.port))
    except OSError:
        made.close()
        raise
    return made


def _only_connections(request: PortRequest, list_sockets: Watcher) -> str:
    """What connections, and nothing else, are seen on a TCP port; empty where that is not so.

    SO_REUSEADDR on UDP would share the port; and where nothing at all is seen, something is hidden.
    """
    if request.transport is Transport.UDP:
        return ""
    sockets = list_sockets([request], connections=True)
    if not sockets or _in_the_way(sockets):
        return ""
    still_open = [entry.peer for entry in sockets if entry.state is SocketState.CONNECTED]
    if still_open:
        return f"open connections (to {still_open[0]}) still use it, for as long as they last"
    return "closed connections linger on it (TIME_WAIT, up to 60 s)"


def taken(requests: Collection[PortRequest], list_sockets: Watcher) -> bool:
    """Whether a socket has any of these ports."""
    return bool(_in_the_way(list_sockets(list(requests))))


def _in_the_way(sockets: Sequence[Socket]) -> tuple[Socket, ...]:
    return tuple(entry for entry in sockets if entry.state in _IN_THE_WAY)


def await_release(
    requests: Collection[PortRequest],
    held: Collection[int],
    list_sockets: Watcher,
    clock: Clock,
    patience_seconds: float = 0.0,
) -> None:
    """Waits until the sockets with the inodes `held` have gone, for a short while at most.

    `patience_seconds` is added to that, for a manager that goes on stopping by itself.
    """
    deadline = clock.monotonic() + RELEASE_SECONDS + patience_seconds
    while clock.monotonic() < deadline:
        if not any(entry.inode in held for entry in list_sockets(list(requests))):
            return
        clock.sleep(WATCH_INTERVAL_SECONDS)


def watch(
    requests: Collection[PortRequest], seconds: float, list_sockets: Watcher, clock: Clock
) -> None:
    """Watches ports that have just been freed for so long, or until a socket takes one of them."""
    deadline = clock.monotonic() + seconds
    while not taken(requests, list_sockets):
        left = deadline - clock.monotonic()
        if left <= 0:
            return
        clock.sleep(min(WATCH_INTERVAL_SECONDS, left))
