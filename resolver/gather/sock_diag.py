"""Sockets by port from the Linux kernel, through sock_diag(7).

The kernel filters by port, needs no privilege, and shows what /proc/net and psutil cannot:
IPV6_V6ONLY, the cgroup of each socket, and sockets that are bound without listening. Nothing else
may live here: no owners, no processes.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.host.netlink import attributes, dump
from resolver.model import Binding, PortNumber, PortRequest, Socket, SocketState, Transport

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_ATTRIBUTE_V6ONLY, _ATTRIBUTE_CGROUP_ID = 11, 21
_ATTRIBUTE_INFO = 2  # INET_DIAG_INFO
_WITH_INFO = 1 << (_ATTRIBUTE_INFO - 1)
_BYTES, _COUNTS = slice(120, 136), struct.Struct("=QQ")  # tcpi_bytes_acked, tcpi_bytes_received
_REQUEST = struct.Struct("=BBBxI2s2s16s16sIII")
_MESSAGE = struct.Struct("=BBBBHH16s16sIIIIIIII")
_PORT = slice(4, 6)  # in inet_diag_msg
_NO_COOKIE = 0xFFFFFFFF

# net/tcp_states.h; BOUND_INACTIVE exists since Linux 6.8, and is reported as CLOSE
_ESTABLISHED, _TIME_WAIT, _CLOSE, _LISTEN, _BOUND_INACTIVE = 1, 6, 7, 10, 13
_ALL_STATES = 0xFFFFFFFF
_HOLDING = {
    Transport.TCP: 1 << _LISTEN | 1 << _CLOSE | 1 << _BOUND_INACTIVE,
    Transport.UDP: _ALL_STATES,
}
_PROTOCOLS = {Transport.TCP: socket.IPPROTO_TCP, Transport.UDP: socket.IPPROTO_UDP}
_FEW = 8  # up to so many ports are asked for one by one


class _SockDiagRow(Struct, frozen=True):
    """One inet_diag_msg with the two attributes that matter."""

    family: int
    state: int
    source: bytes
    peer: bytes
    source_port: int
    peer_port: int
    uid: int
    inode: int
    v6only: bool | None
    cgroup_id: int | None


def list_sockets(
    requests: Sequence[PortRequest] | None, *, connections: bool = False
) -> tuple[Socket, ...]:
    """The sockets on any of the requested ports, sorted, without owners.

    Args:
        requests: None means every port.
        connections: also sockets that are connected or closing, which hold a port without serving.

    Raises:
        OSError: this kernel or sandbox has no sock_diag; the portable way is left.
    """
    found: set[Socket] = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as netlink:
        for transport in Transport:
            ports = None if requests is None else _ports(requests, transport)
            states = _ALL_STATES if connections else _HOLDING[transport]
            for row in _rows(netlink, transport, ports, states):
                entry = _socket(row, transport)
                if requests is None or any(
                    request.meets(entry.binding, v6only=entry.v6only) for request in requests
                ):
                    found.add(entry)
    return tuple(sorted(found, key=_order))


def silent_connections() -> frozenset[int]:
    """The inodes of TCP connections on which one end, or neither, has sent anything yet.

    Counted by the kernel (struct tcp_info of linux/tcp.h): the handshake counts for one byte.

    Raises:
        OSError: this kernel or sandbox has no sock_diag.
    """
    found = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as netlink:
        for family in (socket.AF_INET, socket.AF_INET6):
            bodies = _dump(netlink, family, socket.IPPROTO_TCP, 0, 1 << _ESTABLISHED, _WITH_INFO)
            for body in bodies:
                info = dict(attributes(body, _MESSAGE.size)).get(_ATTRIBUTE_INFO, b"")
                if len(info) >= _BYTES.stop and min(_COUNTS.unpack(info[_BYTES])) <= 1:
                    found.add(_MESSAGE.unpack_from(body)[15])
    return frozenset(found)


def _order(entry: Socket) -> tuple[Binding, int]:
    return entry.binding, entry.inode


def _ports(requests: Iterable[PortRequest], transport: Transport) -> set[int]:
    return {request.port for request in requests if request.transport == transport}


def _rows(
    netlink: socket.socket, transport: Transport, ports: set[int] | None, states: int
) -> Iterator[_SockDiagRow]:
    """Rows whose port is wanted; the kernel ignores the filter for sockets that do not listen."""
    asked = [0] if ports is None or len(ports) > _FEW else sorted(ports)
    for family in (socket.AF_INET, socket.AF_INET6):
        for port in asked:
            for body in _dump(netlink, family, _PROTOCOLS[transport], port, states):
                number = int.from_bytes(body[_PORT], "big")
                if number and (ports is None or number in ports):
                    yield parse_row(body)


def _dump(
    netlink: socket.socket, family: int, protocol: int, port: int, states: int, extra: int = 0
) -> Iterator[bytes]:
    request = _REQUEST.pack(
        family,
        protocol,
        extra,
        states,
        port.to_bytes(2, "big"),
        b"",
        b"",
        b"",
        0,
        _NO_COOKIE,
        _NO_COOKIE,
    )
    return dump(netlink, _SOCK_DIAG_BY_FAMILY, request)


def parse_row(body: bytes) -> _SockDiagRow:
    """One inet_diag_msg: ports in network order, the rest in the machine's own."""
    fields = _MESSAGE.unpack_from(body)
    found = dict(attributes(body, _MESSAGE.size))
    v6only = found.get(_ATTRIBUTE_V6ONLY)
    cgroup = found.get(_ATTRIBUTE_CGROUP_ID)
    return _SockDiagRow(
        family=fields[0],
        state=fields[1],
        source=fields[6],
        peer=fields[7],
        source_port=socket.ntohs(fields[4]),
        peer_port=socket.ntohs(fields[5]),
        uid=fields[14],
        inode=fields[15],
        v6only=None if v6only is None else bool(v6only[0]),
        cgroup_id=None if cgroup is None else int.from_bytes(cgroup[:8], "little"),
    )


def _socket(row: _SockDiagRow, transport: Transport) -> Socket:
    state = _state(row, transport)
    peer = None
    if row.peer_port:
        peer = str(Binding(transport, _address(row.family, row.peer), PortNumber(row.peer_port)))
    return Socket(
        binding=Binding(transport, _address(row.family, row.source), PortNumber(row.source_port)),
        state=state,
        inode=row.inode,
        uid=row.uid,
        v6only=row.v6only,
        cgroup_id=row.cgroup_id,
        peer=peer,
    )


def _address(family: int, raw: bytes) -> str:
    """Canonical text; an IPv4-mapped IPv6 address is the IPv4 address that it stands for."""
    text = socket.inet_ntop(family, raw[: 4 if family == socket.AF_INET else 16])
    return text.removeprefix("::ffff:") if "." in text else text


def _state(row: _SockDiagRow, transport: Transport) -> SocketState:
    if transport is Transport.UDP:
        return SocketState.CONNECTED if row.state == _ESTABLISHED else SocketState.UNCONNECTED
    if row.state == _LISTEN:
        return SocketState.LISTENING
    if row.inode == 0:
        return SocketState.CLOSING
    return SocketState.BOUND if row.state in {_CLOSE, _BOUND_INACTIVE} else SocketState.CONNECTED
