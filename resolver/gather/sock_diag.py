"""Sockets by port from the Linux kernel, through sock_diag(7).

The kernel filters by port, needs no privilege, and shows what /proc/net and psutil cannot:
IPV6_V6ONLY, the cgroup of each socket, and sockets that are bound without listening. Nothing else
may live here: no owners, no processes.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from resolver.host import netlink
from resolver.model import (
    Binding,
    PortNumber,
    PortRequest,
    Socket,
    SocketState,
    Transport,
    meets_any,
    unmapped,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

# linux/inet_diag.h
_ATTRIBUTE_V6ONLY, _ATTRIBUTE_CGROUP_ID = 11, 21
_ATTRIBUTE_INFO = 2  # INET_DIAG_INFO
_WITH_INFO = 1 << (_ATTRIBUTE_INFO - 1)
_BYTES, _COUNTS = slice(120, 136), struct.Struct("=QQ")  # tcpi_bytes_acked, tcpi_bytes_received
_REQUEST = struct.Struct("=BBBxI2s2s16s16sI8s")
_MESSAGE = struct.Struct("=BBBBHH16s16sIIIIIIII")
_PORT = slice(4, 6)  # in inet_diag_msg

# net/tcp_states.h; BOUND_INACTIVE exists since Linux 6.8, and is reported as CLOSE
_CLOSE, _BOUND_INACTIVE = 7, 13
_HOLDING = {
    Transport.TCP: 1 << netlink.LISTEN | 1 << _CLOSE | 1 << _BOUND_INACTIVE,
    Transport.UDP: netlink.ALL_STATES,
}
_PROTOCOLS = {Transport.TCP: socket.IPPROTO_TCP, Transport.UDP: socket.IPPROTO_UDP}
_FEW = 8  # up to so many ports are asked for one by one


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
    for transport in Transport:
        ports = None
        if requests is not None:
            ports = {each.port for each in requests if each.transport == transport}
        states = netlink.ALL_STATES if connections else _HOLDING[transport]
        for entry in _entries(transport, ports, states):
            if meets_any(requests, entry.binding, v6only=entry.v6only):
                found.add(entry)
    return tuple(sorted(found, key=lambda entry: (entry.binding, entry.inode)))


def silent_connections() -> frozenset[int]:
    """The inodes of TCP connections on which one end, or neither, has sent anything yet.

    Counted by the kernel (struct tcp_info of linux/tcp.h): the handshake counts for one byte.

    Raises:
        OSError: this kernel or sandbox has no sock_diag.
    """
    found = set()
    established = 1 << netlink.ESTABLISHED
    for family in (socket.AF_INET, socket.AF_INET6):
        for body in _ask(family, socket.IPPROTO_TCP, 0, established, _WITH_INFO):
            info = dict(netlink.attributes(body, _MESSAGE.size)).get(_ATTRIBUTE_INFO, b"")
            if len(info) >= _BYTES.stop and min(_COUNTS.unpack(info[_BYTES])) <= 1:
                found.add(_MESSAGE.unpack_from(body)[15])
    return frozenset(found)


def _entries(transport: Transport, ports: Collection[int] | None, states: int) -> Iterator[Socket]:
    """Those whose port is wanted; the kernel ignores the filter for sockets that do not listen."""
    asked = [0] if ports is None or len(ports) > _FEW else sorted(ports)
    for family in (socket.AF_INET, socket.AF_INET6):
        for port in asked:
            for body in _ask(family, _PROTOCOLS[transport], port, states):
                number = int.from_bytes(body[_PORT], "big")
                if number and (ports is None or number in ports):
                    yield _socket(body, transport)


def _ask(family: int, protocol: int, port: int, states: int, extra: int = 0) -> Iterator[bytes]:
    ends = port.to_bytes(2, "big"), b"", b"", b""  # ports and addresses: none is any
    request = _REQUEST.pack(family, protocol, extra, states, *ends, 0, netlink.NO_COOKIE)
    return netlink.sock_diag(request)


def _socket(body: bytes, transport: Transport) -> Socket:
    """One inet_diag_msg: ports in network order, the rest in the machine's own."""
    family, state, _, _, port, peer_port, source, peer, *_, uid, inode = _MESSAGE.unpack_from(body)
    found = dict(netlink.attributes(body, _MESSAGE.size))
    v6only = found.get(_ATTRIBUTE_V6ONLY)
    cgroup = found.get(_ATTRIBUTE_CGROUP_ID)
    far = None
    if peer_port:
        far = str(Binding(transport, _address(family, peer), PortNumber(socket.ntohs(peer_port))))
    return Socket(
        binding=Binding(transport, _address(family, source), PortNumber(socket.ntohs(port))),
        state=_state(state, inode, transport),
        inode=inode,
        uid=uid,
        v6only=None if v6only is None else bool(v6only[0]),
        cgroup_id=None if cgroup is None else int.from_bytes(cgroup[:8], "little"),
        peer=far,
    )


def _address(family: int, raw: bytes) -> str:
    return unmapped(socket.inet_ntop(family, raw[: 4 if family == socket.AF_INET else 16]))


def _state(state: int, inode: int, transport: Transport) -> SocketState:
    if transport is Transport.UDP:
        return SocketState.CONNECTED if state == netlink.ESTABLISHED else SocketState.UNCONNECTED
    if state == netlink.LISTEN:
        return SocketState.LISTENING
    if inode == 0:
        return SocketState.CLOSING
    return SocketState.BOUND if state in {_CLOSE, _BOUND_INACTIVE} else SocketState.CONNECTED
