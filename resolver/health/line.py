"""A connection that is read to a limit and no further, for use in a conversation."""

from __future__ import annotations

import errno
import os
import socket
import time
from typing import TYPE_CHECKING

from resolver.health.talks import READ, WRITE, Wait

if TYPE_CHECKING:
    from collections.abc import Generator

LONGEST = 64 << 10  # bytes that are read of one answer
_BLOCK = 16 << 10
_UNDER_WAY = {0, errno.EINPROGRESS, errno.EWOULDBLOCK}


class TooLongError(Exception):
    """The peer has sent more than anybody wants to know."""


class NotYetError(Exception):
    """Nothing can be read or written now; `events` is what to wait for."""

    def __init__(self, events: int) -> None:
        super().__init__()
        self.events = events


class Line:
    """A connected socket; `heard` is everything that was read of it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.heard = bytearray()

    def send(self, data: bytes) -> Generator[Wait]:
        """Sends all of it.

        Raises:
            OSError: the peer has hung up.
        """
        left = memoryview(data)
        while left:
            try:
                left = left[self._send(left) :]
            except NotYetError as busy:
                yield Wait(self.connection.fileno(), busy.events)

    def more(self, seconds: float | None = None) -> Generator[Wait, None, bool]:
        """Waits for more to be heard; False where the peer has nothing to add.

        Args:
            seconds: how long, if not until the conversation's own deadline.

        Raises:
            TooLongError: that is enough.
            TimeoutError: nothing came within `seconds`.
            OSError: the peer has hung up.
        """
        if len(self.heard) >= LONGEST:
            raise TooLongError
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            try:
                block = self._receive(min(_BLOCK, LONGEST - len(self.heard)))
            except NotYetError as busy:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError from None
                yield Wait(self.connection.fileno(), busy.events, left)
                continue
            self.heard += block
            return bool(block)

    def close(self) -> None:
        """Hangs up."""
        self.connection.close()

    def _send(self, data: memoryview) -> int:
        try:
            return self.connection.send(data)
        except BlockingIOError:
            raise NotYetError(WRITE) from None

    def _receive(self, most: int) -> bytes:
        try:
            return self.connection.recv(most)
        except BlockingIOError:
            raise NotYetError(READ) from None


def connect(connection: socket.socket, address: str, port: int) -> Generator[Wait]:
    """Connects a socket that does not block.

    Raises:
        OSError: nobody listens there, or this machine has no such address.
    """
    number = connection.connect_ex((address, port))
    if number not in _UNDER_WAY:
        raise OSError(number, os.strerror(number))
    yield Wait(connection.fileno(), WRITE)
    number = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        raise OSError(number, os.strerror(number))
    if connection.getsockname() == connection.getpeername():  # its own port, by chance (RFC 9293)
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
