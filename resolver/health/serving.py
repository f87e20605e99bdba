"""One cheap look at who serves which port: socket listings only, nothing is bound or diagnosed.

A listing of every socket costs less than asking the kernel for a handful of ports one by one: for
each of those it walks all its tables.
"""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

from resolver.errors import UsageError
from resolver.model import PortRequest, SocketState, Transport

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolver.model import Binding, PortNumber, Socket
    from resolver.reservations.assigning.search import Ephemeral

Signature = frozenset[tuple["Binding", object]]
_IN_THE_WAY = {SocketState.LISTENING, SocketState.BOUND, SocketState.UNCONNECTED}


class Sieve:
    """Sorts listed sockets by the requests that they meet."""

    def __init__(self, requests: Iterable[PortRequest]) -> None:
        self._requests: dict[tuple[PortNumber, Transport], list[PortRequest]] = {}
        for request in dict.fromkeys(requests):
            self._requests.setdefault((request.port, request.transport), []).append(request)

    def sort(self, sockets: Iterable[Socket]) -> dict[PortRequest, Signature]:
        """The signature of each request that any serving socket meets."""
        found: dict[PortRequest, set[tuple[Binding, object]]] = {}
        for entry in sockets:
            if entry.state not in _IN_THE_WAY:
                continue
            for request in self._requests.get((entry.binding.port, entry.binding.transport), ()):
                if request.meets(entry.binding, v6only=entry.v6only):
                    found.setdefault(request, set()).add(_token(entry))
        return {request: frozenset(tokens) for request, tokens in found.items()}


def everything(sockets: Iterable[Socket], outgoing: Ephemeral) -> dict[PortRequest, Signature]:
    """The same for every port that is served.

    Left out is what clients have for a moment: ports that the kernel gives to outgoing
    connections, unless somebody listens on them.
    """
    found: dict[PortRequest, set[tuple[Binding, object]]] = {}
    for entry in sockets:
        binding = entry.binding
        passing = outgoing.first <= binding.port <= outgoing.last
        if entry.state is SocketState.LISTENING or (entry.state in _IN_THE_WAY and not passing):
            request = PortRequest(binding.port, binding.transport)
            found.setdefault(request, set()).add(_token(entry))
    return {request: frozenset(tokens) for request, tokens in found.items()}


def inodes(signature: Signature) -> frozenset[int]:
    """The sockets behind a signature, where they are known by number."""
    return frozenset(token for _, token in signature if isinstance(token, int))


def check_local(requests: Sequence[PortRequest]) -> None:
    """Sees to it that every address is one of this machine's; no port is bound for that.

    Raises:
        UsageError: one is not; no socket would ever be seen there.
    """
    for address in dict.fromkeys(request.address for request in requests):
        if address is not None and not is_local(address):
            raise UsageError(f"{address} is not an address of this machine")


def is_local(address: str) -> bool:
    """Whether this machine has the address: a socket on it can be made, on any port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        return error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
    return True


def is_address(text: str) -> bool:
    """Whether this is an IP address, in its usual spelling."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text  # a zone, which means something on one machine only


def _token(entry: Socket) -> tuple[Binding, object]:
    """A socket by its inode; by its owner where the portable way does not tell the inode."""
    return entry.binding, entry.inode if entry.inode > 0 else entry.owners
