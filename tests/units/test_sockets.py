"""What the kernel and psutil say about real sockets, and how rows are read."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from resolver.errors import StateChangedError
from resolver.gather import sock_diag, sockets
from resolver.gather.owners import owners_of
from resolver.host.identity import identify, is_alive, parse_start_time
from resolver.model import Pid, PortNumber, PortRequest, ProcessIdentity, SocketState, Transport
from tests.lab.ports import free_port, free_range

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the Linux kernel")


def listening(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.bind((address, port))
    opened.listen()
    return opened


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.2", "::", "::1"])
def test_both_ways_see_a_listener(address: str, count: int) -> None:
    first = free_range(count)
    requests = [PortRequest(PortNumber(port)) for port in range(first, first + count)]
    with listening(address, first) as opened:
        for way in (sock_diag, sockets):
            (found,) = way.list_sockets(requests)
            assert (found.binding.address, found.binding.port) == (address, first)
            assert found.state is SocketState.LISTENING
            assert found.inode == os.fstat(opened.fileno()).st_ino
    assert sock_diag.list_sockets(requests) == ()


def test_the_kernel_shows_who_is_bound_without_listening() -> None:
    port = free_port()
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", port))
        (found,) = sock_diag.list_sockets([PortRequest(PortNumber(port))])
    assert found.state is SocketState.BOUND
    assert found.uid == os.getuid()


def test_the_kernel_shows_ipv6_only() -> None:
    port = free_port()
    request = PortRequest(PortNumber(port))
    for v6only in (False, True):
        with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=not v6only):
            (found,) = sock_diag.list_sockets([request])
            assert found.v6only is v6only


def test_connections_are_listed_only_when_asked_for() -> None:
    port = free_port()
    request = PortRequest(PortNumber(port), Transport.TCP, "127.0.0.1")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), source_address=("127.0.0.1", port)),
    ):
        for way in (sock_diag, sockets):
            assert way.list_sockets([request]) == ()
            (found,) = way.list_sockets([request], connections=True)
            assert found.state is SocketState.CONNECTED
            assert found.peer == f"127.0.0.1:{server.getsockname()[1]}/tcp"


def test_every_port_is_listed_when_none_is_named() -> None:
    port = free_port()
    with listening("127.0.0.1", port):
        for way in (sock_diag, sockets):
            assert port in {found.binding.port for found in way.list_sockets(None)}


def test_all_owners_of_a_shared_socket_are_found() -> None:
    port = free_port()
    with (
        listening("127.0.0.1", port) as opened,
        subprocess.Popen(
            [sys.executable, "-c", "input()"],
            pass_fds=[opened.fileno()],
            stdin=subprocess.PIPE,
        ) as child,
    ):
        inode = os.fstat(opened.fileno()).st_ino
        owners = owners_of([inode])[inode]
        child.communicate(b"\n")
    assert {owner.pid for owner in owners} == {os.getpid(), child.pid}


def test_no_inode_needs_no_scan() -> None:
    assert owners_of([]) == {}
    assert owners_of([-3, 0]) == {}


@pytest.mark.parametrize("name", [b"python3", b"a) S 1 (b", b"(v1", b"two\nlines", b""])
def test_the_start_time_is_read_whatever_the_name(name: bytes) -> None:
    fields = b" ".join(str(number).encode() for number in range(3, 53))
    assert parse_start_time(b"42 (" + name + b") " + fields + b"\n") == 22


def test_identity_is_that_of_one_process() -> None:
    own = identify(Pid(os.getpid()))
    assert is_alive(own)
    assert not is_alive(ProcessIdentity(own.pid, own.start_time + 1))
    with subprocess.Popen(["/bin/true"]) as child:
        gone = ProcessIdentity(Pid(child.pid), 0)
    assert not is_alive(gone)
    with pytest.raises(StateChangedError):
        identify(Pid(child.pid))
