"""The HTTP server of `ultra-ports serve`: GET and HEAD, one request for each connection.

Whoever connects is nobody's friend, and may be a page of another site, by way of its visitor's
browser: it can point a name of its own at this machine (DNS rebinding), and then the name is what
gives it away. A connection has so many seconds for its request and as many for taking the response,
so many bytes for its head, and there are so many of them at a time; what goes beyond is ended, and
`slots.py` says whose. Bodies are not read, and what is pipelined is not answered.
"""

from __future__ import annotations

import contextlib
import errno
import re
import socket
import sys
import threading
import time
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import TYPE_CHECKING, Any

from resolver import api
from resolver.errors import ReservedError, UltraPortsError, UsageError
from resolver.health.exporter import Exporter, Reply, plain
from resolver.health.shared_check import METHODS
from resolver.health.signatures import is_address
from resolver.health.slots import Slots, peer_key
from resolver.host.engine_socket import DeadlineSocket
from resolver.host.peer import uid_of_peer
from resolver.model import PortNumber, PortRequest
from resolver.portspec import MAX_PORT
from resolver.report.holders import holder_names
from resolver.reservations import bind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

MOST_CONNECTIONS = 64
LONGEST_HEAD = 16 << 10  # bytes
DEADLINE_SECONDS = 5.0
_BACKLOG = 128
_SCARCE = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PAUSE_SECONDS = 1.0
_LOCALHOST = "127.0.0.1"
_END = b"\r\n\r\n"
_LINE = re.compile(rb"[!-~]{1,32} /[!-~]* HTTP/1\.[01]\r\n")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::[0-9]{0,5})?", re.ASCII)
_STRANGE_NAME = "this is not the name of this server: see serve --host-name"
_READ_ONLY = f"nothing can be changed here: {' and '.join(METHODS)} are all there is"


class ClientConnection(DeadlineSocket):
    """One connection; `gone` is done when it has to end, for want of room.

    `answered`: the response has begun, and nothing else may be written.
    """

    def __init__(self, accepted: socket.socket, address: str) -> None:
        super().__init__(fileno=accepted.detach())
        self.settimeout(DEADLINE_SECONDS)
        self.peer = peer_key(address, uid_of_peer(self))
        self.busy = False
        self.gone: Future[None] = Future()
        self._lock = threading.Lock()
        self._answered = False

    def begin(self) -> bool:
        """Whether the response may be written now; only one may ever be."""
        with self._lock:
            first, self._answered = not self._answered, True
        self.busy = False
        return first

    def end(self) -> None:
        """Ends it at once, for want of room; says so where that can still be said."""
        with contextlib.suppress(OSError):
            if self.begin():
                body = b"too many connections\n"
                head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Length: {len(body)}\r\n"
                self.settimeout(0)
                self.send(f"{head}Connection: close{_END.decode()}".encode() + body)
            self.shutdown(socket.SHUT_RDWR)
        self.gone.set_result(None)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server
    connection: ClientConnection
    raw_requestline: bytes
    protocol_version = request_version = "HTTP/1.1"
    command = ""

    def handle(self) -> None:
        """Reads a request, answers it, and waits for the peer to hang up."""
        with contextlib.suppress(OSError):  # it has gone already, or has to
            if head := self._head():
                self.rfile = BytesIO(head)
                self.handle_one_request()

    def _head(self) -> bytes:
        """The whole head of the request; empty where none comes."""
        head = bytearray()
        while (end := head.find(_END)) < 0 and len(head) <= LONGEST_HEAD:
            try:
                block = self.connection.recv(LONGEST_HEAD)
            except TimeoutError:
                self.send_error(408, "a request is expected sooner")
                return b""
            if not block:
                return b""
            head += block
        if not 0 <= end <= LONGEST_HEAD:
            self.send_error(431, "the head of the request is too long")
            return b""
        return bytes(head[:end]) + _END

    def parse_request(self) -> bool:
        """Reads the head; False where it makes no sense or is not for us, which has been said."""
        if not _LINE.fullmatch(self.raw_requestline):
            self.send_error(400, "this is no HTTP/1.1 request")
        elif super().parse_request():
            if problem := self._problem():
                self.send_error(*problem)
            else:
                return True
        return False

    def _problem(self) -> tuple[int, str] | None:
        hosts = self.headers.get_all("Host", [])
        if self.headers.defects:
            return 400, "a header field makes no sense"
        if len(hosts) != 1:  # in HTTP/1.0 too: a page's request by another name is told by it alone
            return 400, "a request names one host"
        if not is_ours(hosts[0].strip(), self.server.names):
            return 403, _STRANGE_NAME
        return None if self.command in METHODS else (405, _READ_ONLY)

    def do_GET(self) -> None:
        """Answers; HEAD is the same without a body."""
        self.connection.busy = True
        path = self.requestline.split(" ")[1].partition("?")[0]
        try:
            reply = self.server.exporter.answer(path, self._token(), self.connection.gone)
        except (UltraPortsError, RuntimeError, ValueError, LookupError, TypeError) as error:
            self.server.say(f"{path}: {type(error).__name__}: {error}")
            reply = plain(500, "this failed; see what the server says")
        self._send(reply)

    do_HEAD = do_GET  # noqa: N815

    def _token(self) -> bytes:
        """The one bearer token (RFC 6750); other ways of authorization are for who is between."""
        given = self.headers.get_all("Authorization", [])
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        return token.strip(" ").encode("latin-1", "replace") if scheme.lower() == "bearer" else b""

    def handle_expect_100(self) -> bool:
        """No body is read, so none is waited for."""
        return True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: what strangers ask for is nobody's business."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuses the request."""
        del explain
        self._send(plain(code, message or "this is no request"))

    def _send(self, reply: Reply) -> None:
        """Sends the response, and waits for the peer to hang up.

        A connection that is closed with something unread is reset, and the response may be lost
        with it (RFC 9112, section 9.6): so what the peer still sends is read and forgotten.
        """
        if not self.connection.begin():
            return
        self.connection.settimeout(DEADLINE_SECONDS)
        self.send_response_only(reply.status)
        for field in reply.fields.items():
            self.send_header(*field)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)
        self.connection.shutdown(socket.SHUT_WR)
        while self.connection.recv(LONGEST_HEAD):
            pass


class Server(ThreadingHTTPServer):
    """Serves one listening socket.

    Args:
        listener: listens already.
        exporter: gives the reply for a path.
        names: by which this server may be called, beside `localhost` and IP addresses.
        say: is told of what should not have happened.
    """

    daemon_threads = True

    def __init__(
        self,
        listener: socket.socket,
        exporter: Exporter,
        names: Collection[str],
        say: Callable[[str], None],
    ) -> None:
        super().__init__(listener.getsockname()[:2], Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.exporter = exporter
        self.names = frozenset(each.lower() for each in names)
        self.say = say
        self._slots: Slots[ClientConnection] = Slots(MOST_CONNECTIONS)
        self._lock = threading.Lock()

    def get_request(self) -> tuple[ClientConnection, Any]:
        """The next connection; where there can be none, such as without descriptors, it waits."""
        try:
            accepted, address = self.socket.accept()
        except OSError as error:
            if error.errno in _SCARCE:
                self.say(f"no connection: {error.strerror}")
                time.sleep(_PAUSE_SECONDS)
            raise
        return ClientConnection(accepted, address[0]), address

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Answers in a thread; whoever has the most connections makes room for another one."""
        with self._lock:
            excess = self._slots.enter(request)
        if excess:
            excess.end()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401
        """Closes a connection."""
        with self._lock:
            self._slots.leave(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Says what should not have happened."""
        del request, client_address
        self.say(repr(sys.exception()))


def is_ours(host: str, names: Collection[str] = ()) -> bool:
    """Whether a Host field can be meant for us: no name but our own, and any address."""
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    called = match[1].lower()
    return called in {"localhost", *names} or is_address(called.strip("[]"))


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
    if not 0 <= port <= MAX_PORT or not is_address(named) or bracketed != (":" in named):
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
        listener = bind.bound(request, reuse=True)
        listener.listen(_BACKLOG)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise _explained(request, error) from error
    listener.settimeout(0)
    return listener


def _explained(request: PortRequest, error: OSError) -> UltraPortsError:
    found = bind.error_of(request, error)
    if not isinstance(found, ReservedError):
        return found
    holders = api.who(str(request)).ports[0].holders
    if not holders:
        return found
    return ReservedError(f"{request} is held by {holder_names(holders)}", found.hint)
