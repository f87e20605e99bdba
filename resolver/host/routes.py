"""The addresses of a network namespace, and which namespace is behind the way to an address.

Several namespaces of one machine may have the same address. Asked over rtnetlink(7): the route to
the address, the links of that interface and of its bridge, and the namespaces at their other ends
(IFLA_LINK_NETNSID, ip-netns(8) "list-id").
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.host.files import text_of
from resolver.host.netlink import ask, attributes, dump, opened

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from resolver.model import Pid

_LOCAL = "/32 host LOCAL"
_NETLINK_ROUTE = 0
_GET_LINK, _GET_ROUTE, _GET_NAMESPACE = 18, 26, 90  # RTM_GET* of linux/rtnetlink.h
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: its index is the third
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg
_GENERAL = 4  # bytes of struct rtgenmsg, padded
_DESTINATION, _INTERFACE, _GATEWAY = 1, 4, 5  # RTA_*
_MASTER, _INFO, _FAR_END, _TARGET = 10, 18, 37, 46  # IFLA_*
_KIND = 1  # IFLA_INFO_KIND
_NAMESPACE, _PID = 1, 2  # NETNSA_*
_NUMBER = struct.Struct("=i")
_BETWEEN = {"bridge", "veth"}


class _Interface(Struct, frozen=True):
    """An interface; `far_end` is the id of the namespace where its other end is, if any."""

    index: int
    master: int
    kind: str
    far_end: int | None


def addresses_of(pid: Pid | str) -> Iterator[str]:
    """The addresses of a process's network namespace (fib_trie, if_inet6 of proc_pid_net(5))."""
    above = ""
    for line in text_of(f"/proc/{pid}/net/fib_trie").splitlines():
        if _LOCAL in line:
            yield above.rpartition(" ")[2]
        above = line if "|--" in line else above
    for line in text_of(f"/proc/{pid}/net/if_inet6").splitlines():
        yield str(ipaddress.IPv6Address(bytes.fromhex(line.split()[0])))


def at_the_far_end(address: str, pids: Collection[Pid]) -> tuple[Pid, ...] | None:
    """Those of the processes whose network namespace gets what is sent to the address from here.

    `pids` have one process of each namespace that has the address. None where it cannot be told
    which of them, if any, it is.
    """
    try:
        with opened(_NETLINK_ROUTE) as netlink:
            return _reached(netlink, address, pids)
    except OSError:
        return None


def _reached(netlink: socket.socket, address: str, pids: Collection[Pid]) -> tuple[Pid, ...] | None:
    try:
        interface, is_direct = _route(netlink, address)
    except OSError:  # no route to it
        return ()
    links = list(_links(netlink))
    through = [each for each in links if interface in {each.index, each.master}]
    ends = {each.far_end for each in through} - {None}
    found = tuple(pid for pid in pids if _namespace(netlink, pid) in ends)
    if not is_direct or len(found) > 1:
        return None
    return found if found or _ends_there(netlink, through) else None


def _ends_there(netlink: socket.socket, through: Collection[_Interface]) -> bool:
    """Whether what is sent through these links goes no further than to their other ends."""
    local = any(each.kind == "veth" and each.far_end is None for each in through)
    if local or not all(each.kind in _BETWEEN for each in through):
        return False
    ends = [each.far_end for each in through if each.far_end is not None]
    return not any(link.master for end in ends for link in _links(netlink, end))


def _route(netlink: socket.socket, address: str) -> tuple[int, bool]:
    """The interface by which an address is reached, and whether no gateway is between.

    Raises:
        OSError: there is no route.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    header = _ROUTE.pack(family, len(packed) * 8, 0, 0, 0, 0, 0, 0, 0)
    answer = ask(netlink, _GET_ROUTE, header + _attribute(_DESTINATION, packed))
    found = dict(attributes(answer, _ROUTE.size))
    return _NUMBER.unpack(found.get(_INTERFACE, bytes(4)))[0], _GATEWAY not in found


def _links(netlink: socket.socket, namespace: int | None = None) -> Iterator[_Interface]:
    """The interfaces of our namespace, or of the one with this id."""
    request = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    if namespace is not None:
        request += _attribute(_TARGET, _NUMBER.pack(namespace))
    for body in list(dump(netlink, _GET_LINK, request)):
        found = dict(attributes(body, _LINK.size))
        info = dict(attributes(found.get(_INFO, b""), 0))
        far_end = found.get(_FAR_END)
        yield _Interface(
            _LINK.unpack_from(body)[2],
            _NUMBER.unpack(found.get(_MASTER, bytes(4)))[0],
            info.get(_KIND, b"").rstrip(b"\0").decode(errors="replace"),
            _NUMBER.unpack(far_end)[0] if far_end else None,
        )


def _namespace(netlink: socket.socket, pid: Pid) -> int:
    """The id by which ours knows the namespace of a process; -1 where it knows none."""
    try:
        answer = ask(netlink, _GET_NAMESPACE, bytes(_GENERAL) + _attribute(_PID, _NUMBER.pack(pid)))
    except OSError:
        return -1
    found = dict(attributes(answer, _GENERAL))
    return int(_NUMBER.unpack(found.get(_NAMESPACE, _NUMBER.pack(-1)))[0])


def _attribute(kind: int, value: bytes) -> bytes:
    """An attribute of a request (netlink(7)), whose values are all multiples of four bytes."""
    return struct.pack("=HH", len(value) + 4, kind) + value
