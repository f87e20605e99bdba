"""Which address collides with which: our rule against what the kernel does."""

from __future__ import annotations

import errno
import itertools
import socket

import pytest

from resolver.errors import UsageError
from resolver.gather import list_sockets
from resolver.model import Binding, PortNumber, PortRequest, Proof, Transport
from resolver.verify import prove
from tests.lab.ports import free_port

ADDRESSES = ("0.0.0.0", "127.0.0.1", "127.0.0.2", "::", "::1")
KINDS = {Transport.TCP: socket.SOCK_STREAM, Transport.UDP: socket.SOCK_DGRAM}


def bound(transport: Transport, address: str, port: int, *, v6only: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = socket.socket(family, KINDS[transport])
    try:
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(v6only))
        opened.bind((address, port))
    except OSError:
        opened.close()
        raise
    return opened


def can_bind(transport: Transport, address: str, port: int) -> bool:
    try:
        bound(transport, address, port).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True


@pytest.mark.parametrize("transport", Transport)
@pytest.mark.parametrize("v6only", [False, True])
@pytest.mark.parametrize(("held", "wanted"), list(itertools.product(ADDRESSES, ADDRESSES)))
def test_our_rule_is_the_kernels(
    transport: Transport, held: str, wanted: str, *, v6only: bool
) -> None:
    port = PortNumber(free_port())
    with bound(transport, held, port, v6only=v6only):
        request = PortRequest(port, transport, wanted)
        collides = request.meets(Binding(transport, held, port), v6only=v6only)
        assert collides != can_bind(transport, wanted, port)
        assert prove(request, list_sockets).free is not collides


@pytest.mark.parametrize("held", ADDRESSES)
def test_a_request_without_an_address_collides_with_every_one(held: str) -> None:
    port = PortNumber(free_port())
    request = PortRequest(port)
    assert prove(request, list_sockets) == Proof(free=True)
    with bound(Transport.TCP, held, port):
        assert request.meets(Binding(Transport.TCP, held, port))
        assert prove(request, list_sockets).free is False


def test_another_port_or_transport_never_collides() -> None:
    request = PortRequest(PortNumber(8085))
    assert not request.meets(Binding(Transport.UDP, "0.0.0.0", PortNumber(8085)))
    assert not request.meets(Binding(Transport.TCP, "0.0.0.0", PortNumber(8086)))


def test_an_address_of_another_machine_cannot_be_proved() -> None:
    port = PortNumber(free_port())
    with pytest.raises(UsageError, match="not an address of this machine"):
        prove(PortRequest(port, Transport.TCP, "192.0.2.1"), list_sockets)
    with pytest.raises(UsageError, match="zone"):
        prove(PortRequest(port, Transport.TCP, "fe80::1"), list_sockets)
