"""Sockets of the kernel's own, by what the tools say of them. Recorded: this kernel has not all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from resolver.classify import kernel_socket
from resolver.errors import CommandFailedError
from resolver.model import (
    Account,
    Binding,
    Completed,
    Holder,
    PortNumber,
    Snapshot,
    SocketState,
    Transport,
)
from resolver.shell import shell_line

if TYPE_CHECKING:
    from collections.abc import Sequence

# iproute2's ip-l2tp(8) and ip-fou(8), and rpcinfo(8) of rpcbind, as they print
ANSWERS = {
    ("ip", "l2tp", "show", "tunnel"): (
        "Tunnel 100, encap UDP\n  From 192.0.2.1 to 192.0.2.2\n  Peer tunnel 200\n"
        "  UDP source / dest ports: 1701/1702\n  UDP checksum: disabled\n"
        "Tunnel 101, encap IP\n  From 192.0.2.1 to 192.0.2.3\n  Peer tunnel 201\n"
        "Tunnel 102, encap UDP\n  From 192.0.2.5 to 192.0.2.9\n  Peer tunnel 202\n"
        "  UDP source / dest ports: 5000/1701\n"
    ),
    ("ip", "fou", "show"): "port 5555 ipproto 4\nport 5556 gue\n",
    ("rpcinfo", "-p"): (
        "   program vers proto   port  service\n"
        "    100000    4   tcp    111  portmapper\n"
        "    100021    4   tcp  34567  nlockmgr\n"
    ),
}


def run(
    argv: Sequence[str],
    *,
    timeout_seconds: float,
    account: Account | None = None,
    folder: str | None = None,
) -> Completed:
    """The recorded answers; every other tool is missing."""
    assert timeout_seconds
    assert (account, folder) == (None, None)
    if tuple(argv) not in ANSWERS:
        raise CommandFailedError(f"{argv[0]}: No such file or directory")
    return Completed(0, ANSWERS[tuple(argv)], "")


@pytest.mark.parametrize(
    ("transport", "port", "name", "command"),
    [
        ("udp", 1701, "L2TP tunnel 100", "ip l2tp del tunnel tunnel_id 100"),
        ("udp", 5000, "L2TP tunnel 102", "ip l2tp del tunnel tunnel_id 102"),
        ("udp", 5556, "Foo over UDP", "ip fou del port 5556"),
        ("tcp", 34567, "the lock manager of NFS", "findmnt -t nfs,nfs4"),
    ],
)
def test_what_the_kernel_holds_is_named(transport: str, port: int, name: str, command: str) -> None:
    binding = Binding(Transport(transport), "0.0.0.0", PortNumber(port))
    for state in (SocketState.UNCONNECTED, SocketState.CONNECTED):  # an L2TP tunnel's has a peer
        found = kernel_socket.classify(Holder(binding, state, kernel=True), Snapshot(), run)
        assert found is not None
        assert found.chain == ("the kernel", name)
        assert shell_line(found.commands[0]).startswith(command)


@pytest.mark.parametrize(("transport", "port"), [("udp", 1702), ("tcp", 1701), ("udp", 34567)])
def test_what_it_does_not_hold_is_not(transport: str, port: int) -> None:
    binding = Binding(Transport(transport), "0.0.0.0", PortNumber(port))
    holder = Holder(binding, SocketState.UNCONNECTED, kernel=True)
    assert kernel_socket.classify(holder, Snapshot(), run) is None
