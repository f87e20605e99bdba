"""Who serves which port, as something to compare: nothing is bound or diagnosed for it.

A listing of every socket costs less than asking the kernel for a handful of ports one by one: for
each of those it walks all its tables.
"""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import UsageError
from resolver.model import Binding, PortNumber, PortRequest, Socket, SocketState, Transport

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from resolver.reservations.candidates import Ephemeral

Signature = frozenset[tuple[Binding, object]]
_IN_THE_WAY = {SocketState.LISTENING, SocketState.BOUND, SocketState.UNCONNECTED}


class Serving(Struct, frozen=True):
    """A binding, and what tells whose it is from whose it was."""

    binding: Binding
    token: object
    v6only: bool | None = None


class Matcher:
    """Sorts what is served by the requests that it meets; without requests, each by its port."""

    def __init__(self, requests: Sequence[PortRequest] | None) -> None:
        self.requests = None if requests is None else tuple(dict.fromkeys(requests))
        self._by_port: dict[tuple[PortNumber, Transport], list[PortRequest]] = {}
        for request in self.requests or ():
            self._by_port.setdefault((request.port, request.transport), []).append(request)

    def sort(self, served: Iterable[Serving]) -> dict[PortRequest, Signature]:
        """The signature of each request that anything meets."""
        found: dict[PortRequest, set[tuple[Binding, object]]] = {}
        for each in served:
            for request in self._met(each):
                found.setdefault(request, set()).add((each.binding, each.token))
        return {request: frozenset(tokens) for request, tokens in found.items()}

    def _met(self, served: Serving) -> Iterator[PortRequest]:
        port, transport = served.binding.port, served.binding.transport
        if self.requests is None:
            yield PortRequest(port, transport)
        for request in self._by_port.get((port, transport), ()):
            if request.meets(served.binding, v6only=served.v6only):
                yield request


def of_sockets(sockets: Iterable[Socket], passing: Ephemeral | None = None) -> Iterator[Serving]:
    """The sockets that serve: by their inodes, else (the portable way) by their owners.

    Left out is what clients have for a moment, ports that the kernel gives to outgoing connections
    (`passing`), unless somebody listens on them.
    """
    for each in sockets:
        port = each.binding.port
        is_outgoing = passing is not None and passing.first <= port <= passing.last
        if each.state is SocketState.LISTENING or (each.state in _IN_THE_WAY and not is_outgoing):
            token = each.inode if each.inode > 0 else each.owners
            yield Serving(each.binding, token, each.v6only)


def inodes(signature: Signature) -> frozenset[int]:
    """The sockets behind a signature, where they are known by number."""
    return frozenset(token for _, token in signature if isinstance(token, int))


def check_local(requests: Iterable[PortRequest]) -> None:
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
