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


@pytest.mark.parametrize("transport", Transport)
@pytest.mark.parametrize("held", ADDRESSES)
@pytest.mark.parametrize("listening", [False, True])
@pytest.mark.parametrize("option", [None, socket.SO_REUSEADDR, socket.SO_REUSEPORT])
@pytest.mark.parametrize("v6only", [False, True])
def test_one_socket_for_both_families_collides_with_either(
    transport: Transport, held: str, option: int | None, *, listening: bool, v6only: bool
) -> None:
    """The proof that asks for both at once may not pass where one family's would not."""
    port = PortNumber(free_port())
    request = PortRequest(port, transport)
    family = socket.AF_INET6 if ":" in held else socket.AF_INET
    with socket.socket(family, KINDS[transport]) as holder:
        if option is not None:
            holder.setsockopt(socket.SOL_SOCKET, option, 1)
        if family == socket.AF_INET6:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(v6only))
        holder.bind((held, port))
        if listening and transport is Transport.TCP:
            holder.listen()
        found = prove(request, list_sockets)
        assert (found.free, found.reason) == (False, "address already in use")
    assert prove(request, list_sockets).free is True


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
