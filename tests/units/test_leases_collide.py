"""Which leases are in each other's way, checked against bind(2) of this very kernel."""

from __future__ import annotations

import errno
import itertools
import socket
from contextlib import ExitStack

import pytest

from resolver.leases.model import collide
from resolver.model import PortNumber, PortRequest, Transport
from tests.lab.ports import free_port

ADDRESSES = (None, "0.0.0.0", "127.0.0.1", "127.0.0.2", "::", "::1")
ENDPOINTS = tuple(itertools.product(ADDRESSES, Transport))
KINDS = {Transport.TCP: socket.SOCK_STREAM, Transport.UDP: socket.SOCK_DGRAM}


def sockets(address: str | None, *, split: bool) -> list[tuple[socket.AddressFamily, str, bool]]:
    """How a server binds that address: family, address and IPV6_V6ONLY.

    Every address is one dual-stack socket, or one for each family.
    """
    if address is None and split:
        return [(socket.AF_INET, "0.0.0.0", False), (socket.AF_INET6, "::", True)]
    if address is None or ":" in address:
        return [(socket.AF_INET6, address or "::", False)]
    return [(socket.AF_INET, address, False)]


def serve(stack: ExitStack, request: PortRequest, *, split: bool) -> None:
    """Binds as a server does.

    Raises:
        OSError: of bind(2).
    """
    for family, address, v6only in sockets(request.address, split=split):
        server = stack.enter_context(socket.socket(family, KINDS[request.transport]))
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        server.bind((address, request.port))


def bind_collides(one: PortRequest, other: PortRequest, *, split: tuple[bool, bool]) -> bool:
    with ExitStack() as stack:
        serve(stack, one, split=split[0])
        try:
            serve(stack, other, split=split[1])
        except OSError as error:
            assert error.errno == errno.EADDRINUSE
            return True
    return False


@pytest.mark.parametrize("first", ENDPOINTS, ids=str)
def test_leases_collide_where_servers_do(first: tuple[str | None, Transport]) -> None:
    port = PortNumber(free_port())
    one = PortRequest(port, first[1], first[0])
    for address, transport in ENDPOINTS:
        other = PortRequest(port, transport, address)
        for split in ((False, False), (False, True), (True, False), (True, True)):
            assert collide(one, other) is bind_collides(one, other, split=split), (
                one,
                other,
                split,
            )
        assert collide(one, other) is collide(other, one)


def test_another_port_is_another_port() -> None:
    assert not collide(PortRequest(PortNumber(8085)), PortRequest(PortNumber(8086)))
