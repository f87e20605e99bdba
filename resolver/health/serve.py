"""A small HTTP server that only answers: GET and HEAD, one request for each connection.

Whoever connects is nobody's friend. A connection has so many seconds for its request and as many
for taking the response, so many bytes for its head, and there are so many of them at a time; what
goes beyond is ended, and `slots.py` says whose. Bodies are not read, and what is pipelined is not
answered.
"""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus
from typing import TYPE_CHECKING

from resolver import api
from resolver.errors import ReservedError, UltraPortsError, UsageError
from resolver.health.exporter import NO_CONTENT, Reply
from resolver.health.heads import METHODS, RefusedError, Request, is_address, parse
from resolver.health.slots import Slot, Slots, who
from resolver.host.tcp_peer import uid_of_peer
from resolver.leases.remarks import name
from resolver.model import PortNumber, PortRequest
from resolver.reservations.holding import endpoint

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Collection, Hashable

    Answer = Callable[[Request], Awaitable[Reply]]

MOST_CONNECTIONS = 64
LONGEST_HEAD = 16 << 10  # bytes
DEADLINE_SECONDS = 5.0
_BACKLOG = 128
_LOCALHOST = "127.0.0.1"
_LAST_PORT = 65535


class Connection:
    """One connection; `answered`: the response has begun, and nothing else may be written."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.answered = False
        self.task: asyncio.Task[None] | None = None

    def end(self) -> None:
        """Ends it at once, for want of room; says so where that can still be said."""
        if not self.answered:
            self.writer.write(response(_plain(503, "too many connections"), Request("")))
        self.writer.transport.abort()
        if self.task is not None:
            self.task.cancel()


class Server:
    """Serves one listening socket.

    Args:
        answer: gives the reply for a request.
        names: by which this server may be called, beside `localhost` and IP addresses.
        say: is told of what should not have happened.
    """

    def __init__(self, answer: Answer, names: Collection[str], say: Callable[[str], None]) -> None:
        self._answer = answer
        self._names = frozenset(name.lower() for name in names)
        self._say = say
        self._slots: Slots[Connection] = Slots(MOST_CONNECTIONS)
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, listener: socket.socket, ended: asyncio.Event) -> None:
        """Answers until the event is set; every connection is ended then."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._trouble)
        server = await asyncio.start_server(
            self._accepted, sock=listener, limit=LONGEST_HEAD, backlog=_BACKLOG
        )
        try:
            await ended.wait()
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _trouble(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """What asyncio would log, such as that no descriptor is left for a connection."""
        self._say(f"{context.get('message')}: {context.get('exception')!r}")

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        slot = Slot(_peer(writer), Connection(reader, writer))
        task = asyncio.get_running_loop().create_task(self._connected(slot))
        slot.connection.task = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if excess := self._slots.enter(slot):
            excess.connection.end()

    async def _connected(self, slot: Slot[Connection]) -> None:
        connection = slot.connection
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._one(slot, connection.reader, connection.writer)
        finally:
            self._slots.leave(slot)
            connection.writer.transport.abort()

    async def _one(
        self, slot: Slot[Connection], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        request = Request("")
        try:
            request = await self._request(reader)
            slot.busy = True
            reply = await self._answer(request)
        except RefusedError as error:
            reply = _plain(error.status, str(error))
        except (UltraPortsError, RuntimeError, ValueError, LookupError, TypeError) as error:
            self._say(f"{request.path}: {type(error).__name__}: {error}")
            reply = _plain(500, "this failed; see what the server says")
        slot.busy = False
        slot.connection.answered = True
        await _send(response(reply, request), reader, writer)

    async def _request(self, reader: asyncio.StreamReader) -> Request:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
        except TimeoutError:
            raise RefusedError(408, "a request is expected sooner") from None
        except asyncio.LimitOverrunError:
            raise RefusedError(431, "the head of the request is too long") from None
        return parse(head.removesuffix(b"\r\n\r\n"), self._names)


def _peer(writer: asyncio.StreamWriter) -> Hashable:
    """Who made the connection; nobody in particular where it has gone already."""
    connection = writer.get_extra_info("socket")
    peer = writer.get_extra_info("peername")
    return who(peer[0], uid_of_peer(connection)) if connection and peer else None


async def _send(data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends the response, and waits for the peer to hang up.

    A connection that is closed with something unread is reset, and the response may be lost with it
    (RFC 9112, section 9.6): so what the peer still sends is read and forgotten, until its time is
    up.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DEADLINE_SECONDS):
            writer.write(data)
            await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
            while await reader.read(LONGEST_HEAD):
                pass


def response(reply: Reply, request: Request) -> bytes:
    """The bytes of a response."""
    fields = {
        "Content-Type": reply.kind,
        "Content-Length": str(len(reply.body)),
        "Connection": "close",
        "Cache-Control": "no-store",
        "Content-Security-Policy": reply.policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        **({"Allow": ", ".join(METHODS)} if reply.status == HTTPStatus.METHOD_NOT_ALLOWED else {}),
    }
    phrase = HTTPStatus(reply.status).phrase
    lines = [f"HTTP/1.1 {reply.status} {phrase}", *(f"{k}: {v}" for k, v in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + (b"" if request.bodiless else reply.body)


def _plain(status: int, reason: str) -> Reply:
    return Reply(status, "text/plain; charset=utf-8", f"{reason}\n".encode(), NO_CONTENT)


def address(text: str) -> PortRequest:
    """Where to listen: `127.0.0.1:9485`, `[::1]:9485`, `localhost:9485`, or a port alone.

    A port alone is one on loopback. Port 0 is any that is free.

    Raises:
        UsageError: it is none of these.
    """
    host, colon, number = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    port = int(number) if number.isascii() and number.isdecimal() and len(number) < 6 else -1  # noqa: PLR2004
    named = _LOCALHOST if host == "localhost" or not colon else bare
    bracketed = host == f"[{bare}]"
    if not 0 <= port <= _LAST_PORT or not is_address(named) or bracketed != (":" in named):
        raise UsageError(
            f"{text!a} is no address to listen on", "such as 127.0.0.1:9485, [::1]:9485 or 9485"
        )
    return PortRequest(PortNumber(port), address=named)


def listening(request: PortRequest) -> socket.socket:
    """A listening socket.

    Raises:
        ReservedError: somebody has the port; the message says who, where that can be seen.
        UsageError: the address is none of this machine's.
        PortNotPermittedError: this user may not bind it.
    """
    listener = None
    try:
        listener = endpoint.bound(request, reuse=True)
        listener.listen(_BACKLOG)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise _explained(request, error) from error
    listener.settimeout(0)
    return listener


def _explained(request: PortRequest, error: OSError) -> UltraPortsError:
    found = endpoint.explained(request, error)
    if not isinstance(found, ReservedError):
        return found
    holders = api.who(str(request)).ports[0].holders
    names = ", ".join(dict.fromkeys(name(each.classification.holder) for each in holders))
    if not names:
        return found
    return ReservedError(f"{request} is held by {names}", found.hint)
