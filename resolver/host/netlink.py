"""Questions to the Linux kernel over netlink(7): one at a time, answered in raw messages.

What a message means is the business of who asks.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# linux/netlink.h, linux/sock_diag.h, net/tcp_states.h
ESTABLISHED, LISTEN = 1, 10
ALL_STATES = 0xFFFFFFFF
NO_COOKIE = b"\xff" * 8
_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20

_REQUEST = 0x1  # NLM_F_REQUEST
_REQUEST_DUMP = 0x301  # with NLM_F_DUMP
_INTERRUPTED = 0x10  # NLM_F_DUMP_INTR
_ERROR, _DONE = 2, 3  # NLMSG_*
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_NUMBER = 4  # bytes
_TYPE = 0x3FFF  # NLA_TYPE_MASK: without the marks for nesting and byte order


def sock_diag(request: bytes) -> Iterator[bytes]:
    """The body of each message about the sockets that are asked for (sock_diag(7)).

    Raises:
        InterruptedError: as for `dump`.
        OSError: this kernel, sandbox or platform has no sock_diag.
    """
    with opened(_SOCK_DIAG) as netlink:
        yield from dump(netlink, _SOCK_DIAG_BY_FAMILY, request)


def sock_diag_one(request: bytes) -> bytes:
    """The body of the message about the one socket that is asked for.

    Raises:
        OSError: there is no such socket; or as for `sock_diag`.
    """
    with opened(_SOCK_DIAG) as netlink:
        return ask(netlink, _SOCK_DIAG_BY_FAMILY, request)


def opened(protocol: int) -> socket.socket:
    """A socket for questions of one protocol, not connected.

    Raises:
        OSError: this kernel, sandbox or platform has none.
    """
    if not hasattr(socket, "AF_NETLINK"):
        raise OSError(errno.EAFNOSUPPORT, "netlink is Linux's own")
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)


def dump(netlink: socket.socket, kind: int, request: bytes) -> Iterator[bytes]:
    """The body of each message of an answer, to be read to its end before the next question.

    Args:
        netlink: from `opened`.
        kind: of the request, `nlmsg_type`.
        request: what follows the header.

    Raises:
        InterruptedError: what was listed has changed meanwhile, so something may be missing.
        OSError: the kernel refuses; its number is kept.
    """
    netlink.send(_HEADER.pack(_HEADER.size + len(request), kind, _REQUEST_DUMP, 1, 0) + request)
    while True:
        block = netlink.recv(1 << 17)
        for answer, flags, body in _messages(block):
            if flags & _INTERRUPTED:
                raise InterruptedError(errno.EINTR, "netlink: the list changed meanwhile")
            if answer in {_DONE, _ERROR}:
                _check(body)
                return
            yield body


def ask(netlink: socket.socket, kind: int, request: bytes) -> bytes:
    """The body of the one message that answers; arguments as for `dump`.

    Raises:
        OSError: there is no such thing, or the kernel refuses.
    """
    netlink.send(_HEADER.pack(_HEADER.size + len(request), kind, _REQUEST, 1, 0) + request)
    for answer, _, body in _messages(netlink.recv(1 << 17)):
        if answer != _ERROR:
            return body
        _check(body)
    raise OSError(errno.ENODATA, "netlink: no answer")


def _check(end: bytes) -> None:
    """Raises what the last message says: an error, or how the dump went (netlink(7))."""
    number = -struct.unpack_from("=i", end)[0] if len(end) >= _NUMBER else 0
    if number > 0:
        raise OSError(number, f"netlink: {errno.errorcode.get(number, number)}")


def _messages(block: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The type, the flags and the body of each message."""
    offset = 0
    while offset + _HEADER.size <= len(block):
        length, kind, flags, _, _ = _HEADER.unpack_from(block, offset)
        yield kind, flags, block[offset + _HEADER.size : offset + length]
        offset += max(_HEADER.size, (length + 3) & ~3)


def attributes(body: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """The (type, value) of each attribute of a message, from the end of its fixed part."""
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        yield kind & _TYPE, body[offset + _ATTRIBUTE.size : offset + length]
        offset += max(_ATTRIBUTE.size, (length + 3) & ~3)
