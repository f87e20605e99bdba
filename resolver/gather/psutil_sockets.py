"""Sockets by port through psutil: the portable way, where the kernel cannot be asked directly.

It cannot see sockets that are bound without listening, nor IPV6_V6ONLY, and it names one owner of a
shared socket; `owners.py` finds the others where the platform has /proc.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import psutil
from msgspec.structs import replace

from resolver.host.descriptors import socket_facts
from resolver.host.identity import identified
from resolver.model import (
    ANY_IPV6,
    Binding,
    Pid,
    PortNumber,
    Socket,
    SocketState,
    Transport,
    meets_any,
    unmapped,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from resolver.model import PortRequest

_SERVING = {SocketState.LISTENING, SocketState.UNCONNECTED}
# psutil's names of TCP states in which a process that serves nobody still has the port
_OWNERLESS = {"TIME_WAIT", "FIN_WAIT1", "FIN_WAIT2", "LAST_ACK", "CLOSING"}


def list_sockets(
    requests: Sequence[PortRequest] | None, *, connections: bool = False
) -> tuple[Socket, ...]:
    """The sockets on any of the requested ports, sorted; `owners` holds at most one process.

    Without privilege, macOS lets psutil see only this user's sockets: what is missing is found by
    the bind proof.
    """
    found: dict[tuple[Binding, SocketState, str | None, int], Socket] = {}
    entries = [_socket(row, pid, index) for index, (row, pid) in enumerate(_rows())]
    for entry in _with_v6only(entries):
        if entry.state in {SocketState.CONNECTED, SocketState.CLOSING} and not (
            connections or entry.binding.transport is Transport.UDP
        ):
            continue
        if meets_any(requests, entry.binding, v6only=entry.v6only):
            found[entry.binding, entry.state, entry.peer, entry.inode] = entry
    return tuple(sorted(found.values(), key=lambda entry: (entry.binding, entry.inode)))


def _with_v6only(entries: list[Socket]) -> Iterator[Socket]:
    """Tells that a `::` socket is IPv6-only where another one has the same port on IPv4.

    They could not both be there otherwise, but for SO_REUSEPORT; then the next round shows it.
    """
    on_ipv4 = {
        entry.binding.transport_port
        for entry in entries
        if entry.state in _SERVING and ":" not in entry.binding.address
    }
    for entry in entries:
        both = entry.binding.transport_port in on_ipv4
        yield replace(entry, v6only=True) if both and entry.binding.address == ANY_IPV6 else entry


def _rows() -> Iterator[tuple[Any, int | None]]:
    """The rows of psutil, each with its owner's PID where that is known."""
    try:
        rows = [(row, row.pid) for row in psutil.net_connections(kind="inet")]
    except psutil.AccessDenied:
        rows = list(_rows_of_each_process())
    return ((row, pid) for row, pid in rows if row.laddr)


def _rows_of_each_process() -> Iterator[tuple[Any, int | None]]:
    """What macOS shows an unprivileged user: the sockets of the processes it may look into."""
    for process in psutil.process_iter():
        try:
            rows = process.net_connections(kind="inet")
        except psutil.Error:
            continue
        yield from ((row, process.pid) for row in rows)


def _socket(row: Any, pid: int | None, index: int) -> Socket:  # noqa: ANN401 - psutil's named tuple, as it comes
    transport = Transport.TCP if row.type == socket.SOCK_STREAM else Transport.UDP
    peer = None
    if row.raddr:
        peer = str(Binding(transport, row.raddr.ip, PortNumber(row.raddr.port)))
    inode, uid = _facts(row, pid)
    return Socket(
        binding=Binding(transport, unmapped(row.laddr.ip), PortNumber(row.laddr.port)),
        state=_state(row, pid, transport),
        inode=inode or -1 - index,
        uid=uid,
        peer=peer,
        owners=tuple(identified([Pid(pid)] if pid else [])),
    )


def _state(row: Any, pid: int | None, transport: Transport) -> SocketState:  # noqa: ANN401
    if transport is Transport.UDP:
        return SocketState.CONNECTED if row.raddr else SocketState.UNCONNECTED
    if row.status == "LISTEN":
        return SocketState.LISTENING
    if pid is None and row.status in _OWNERLESS:
        return SocketState.CLOSING
    return SocketState.CONNECTED


def _facts(row: Any, pid: int | None) -> tuple[int | None, int | None]:  # noqa: ANN401
    """The socket's inode and its maker, through its owner's descriptor, where that can be read."""
    found = socket_facts(pid, row.fd) if pid and row.fd >= 0 else None
    return found or (None, None)
