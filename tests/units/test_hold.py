"""The flip hold: who is refused while a port is held, who gets in, and what is left of it."""

from __future__ import annotations

import errno
import socket
from itertools import product
from pathlib import Path

import pytest

from resolver.errors import ReservedError, UsageError
from resolver.model import PortNumber, PortRequest, Transport
from resolver.reservations.hold import Hold
from tests.lab.ports import free_port, is_free

EVERYWHERE = (None, "0.0.0.0", "::", "127.0.0.1", "::1")


def wanted(address: str | None = None, transport: Transport = Transport.TCP) -> PortRequest:
    return PortRequest(PortNumber(free_port()), transport, address)


def refused(address: str, port: int, *, reuse: bool = False, listen: bool = True) -> int:
    """0, or the errno that a server gets there."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reuse))
        try:
            server.bind((address, port))
            if listen:
                server.listen()
        except OSError as error:
            return error.errno or -1
    return 0


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "127.0.0.1", "127.0.0.2", "::1"])
def test_a_plain_binder_is_refused_and_a_common_server_gets_in(address: str) -> None:
    request = wanted()
    with Hold.take(request) as hold:
        assert hold.admits_servers
        assert refused(address, request.port) == errno.EADDRINUSE
        assert refused(address, request.port, reuse=True) == 0
        assert refused(address, request.port) == errno.EADDRINUSE
    assert refused(address, request.port) == 0


def test_the_client_of_a_server_under_the_hold_meets_the_server() -> None:
    request = wanted()
    with (
        Hold.take(request),
        socket.create_server(("127.0.0.1", request.port)) as server,
        socket.create_connection(("127.0.0.1", request.port), timeout=5) as client,
        server.accept()[0] as accepted,
    ):
        assert accepted.getpeername() == client.getsockname()


def test_nobody_is_answered_while_nobody_serves() -> None:
    request = wanted()
    with Hold.take(request), pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", request.port), timeout=5)


@pytest.mark.parametrize(("first", "second"), [*product(EVERYWHERE, EVERYWHERE)])
def test_holds_are_in_each_others_way_where_servers_would_be(
    first: str | None, second: str | None
) -> None:
    port = PortNumber(free_port())
    apart = {first, second} in ({"127.0.0.1", "::1"}, {"0.0.0.0", "::1"})
    with Hold.take(PortRequest(port, address=first)):
        if apart:
            Hold.take(PortRequest(port, address=second)).release()
        else:
            with pytest.raises(ReservedError, match=f"{port}/tcp is taken"):
                Hold.take(PortRequest(port, address=second))


def test_a_server_that_listens_is_not_held_over() -> None:
    request = wanted()
    with (
        socket.create_server(("127.0.0.1", request.port)),
        pytest.raises(ReservedError, match=f"{request} is taken") as raised,
    ):
        Hold.take(request)
    assert raised.value.hint == f"ultra-ports who {request.port}"


def test_an_address_of_its_own_leaves_the_others_alone() -> None:
    request = wanted("127.0.0.1")
    with Hold.take(request):
        assert refused("127.0.0.2", request.port) == 0
        assert refused("::1", request.port) == 0
        assert refused("127.0.0.1", request.port) == errno.EADDRINUSE
        assert refused("0.0.0.0", request.port) == errno.EADDRINUSE


def test_udp_is_held_plainly_and_beside_tcp() -> None:
    request = wanted(transport=Transport.UDP)
    with Hold.take(request) as hold, Hold.take(PortRequest(request.port)):
        assert not hold.admits_servers
        assert not is_free(request.port, "udp")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="in use"):  # it would share the datagrams
                other.bind(("127.0.0.1", request.port))
        with pytest.raises(ReservedError):
            Hold.take(request)
    assert is_free(request.port, "udp")


@pytest.fixture
def closed_connection() -> PortRequest:
    """A port on which the server closed a connection first: TIME_WAIT is on its side."""
    request = wanted()
    with socket.create_server(("127.0.0.1", request.port)) as server:
        client = socket.create_connection(("127.0.0.1", request.port), timeout=5)
        accepted, _ = server.accept()
        accepted.close()
        client.close()
    assert refused("127.0.0.1", request.port) == errno.EADDRINUSE
    return request


def test_what_the_last_server_left_is_no_obstacle(closed_connection: PortRequest) -> None:
    with Hold.take(closed_connection) as hold:
        assert "TIME_WAIT" in hold.lingering
        assert refused("0.0.0.0", closed_connection.port, reuse=True) == 0
        with pytest.raises(ReservedError):
            Hold.take(closed_connection)
    with Hold.take(closed_connection):
        pass


def test_the_impatient_leave_such_a_port_alone(closed_connection: PortRequest) -> None:
    with pytest.raises(ReservedError):
        Hold.take(closed_connection, patient=False)


def test_leftovers_do_not_hide_another_hold(closed_connection: PortRequest) -> None:
    with socket.socket() as other:  # as a server between bind(2) and listen(2)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", closed_connection.port))
        with pytest.raises(ReservedError):
            Hold.take(closed_connection)


def test_where_bound_sockets_are_not_shown_leftovers_are_an_obstacle(
    closed_connection: PortRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ULTRA_PORTS_GATHER", "psutil")  # which shows none, like kernels before 6.8
    with pytest.raises(ReservedError):
        Hold.take(closed_connection)


def test_a_refusal_leaves_nothing_open() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    request = wanted()
    with Hold.take(request):
        for _ in range(3):
            with pytest.raises(ReservedError):
                Hold.take(request)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_release_twice() -> None:
    hold = Hold.take(wanted())
    hold.release()
    hold.release()
    assert not hold.admits_servers
    assert is_free(hold.request.port)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])  # RFC 5737, RFC 3849
def test_an_address_of_another_machine(address: str) -> None:
    with pytest.raises(UsageError, match=f"{address} is not an address of this machine"):
        Hold.take(wanted(address))


def test_an_address_without_its_zone() -> None:
    with pytest.raises(UsageError, match="zone"):
        Hold.take(wanted("fe80::1"))
