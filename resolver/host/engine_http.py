"""One question to an engine through its unix socket: HTTP/1.1 as the Engine API speaks it, no more.

The Docker SDK takes longer to load than everything else that a command does. It is used where
something is to be changed, and for engines that are not behind a unix socket. Only GET may live
here.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from resolver.errors import EngineError
from resolver.host.engine_socket import LARGEST, check_size, connect

if TYPE_CHECKING:
    import socket

_LONGEST_HEAD = 1 << 16
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})\b")
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d{1,18}) *(?:\r\n|$)")
_CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding: *chunked *(?:\r\n|$)")
_END_OF_HEAD, _LAST_CHUNK = b"\r\n\r\n", b"\r\n0\r\n\r\n"


def get(
    path: str, target: str, timeout_seconds: float, uid: int | None = None
) -> tuple[int, bytes]:
    """The status and the body of one answer, which is read to its end.

    Args:
        path: of the unix socket.
        target: `/containers/json` and the like; without a version, the engine's newest applies.
        timeout_seconds: for everything, from connecting to the last byte.
        uid: the user that has to listen there; None for whoever does.

    Raises:
        EngineAbsentError: there is nothing at the path.
        EngineNotPermittedError: this user may not connect.
        EngineError: nobody listens, or somebody else than the user; or the answer is late, too
            long, cut off, or no HTTP.
    """
    deadline = time.monotonic() + timeout_seconds
    endpoint = f"unix://{path}"
    with connect(path, timeout_seconds, uid) as connection:
        request = f"GET {target} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n"
        try:
            connection.sendall(request.encode("ascii"))
            head, body = _read(connection, deadline)
        except TimeoutError as error:
            raise EngineError(f"{endpoint} did not answer in {timeout_seconds:g} s") from error
        except (OSError, ValueError) as error:
            raise EngineError(f"{endpoint} does not answer as an engine") from error
    status = _STATUS.match(head)
    if status is None:
        raise EngineError(f"{endpoint} does not answer as an engine")
    return int(status[1]), body


def _read(connection: socket.socket, deadline: float) -> tuple[bytes, bytes]:
    """Head and body; whoever is between us and the engine may keep the connection open.

    Raises:
        ValueError: it is not what the head promises, or more than any engine says.
        TimeoutError: the deadline has passed.
    """
    head, body = _read_head(connection)
    chunked, length = _CHUNKED.search(head), _LENGTH.search(head)
    wanted = int(length[1]) if length and not chunked else None
    whole = chunked and _is_last_chunk(body)
    while not whole and (wanted is None or len(body) < wanted):
        block = connection.recv(1 << 17)
        if not block:
            break
        body += block
        if len(body) > LARGEST:
            raise ValueError("the answer is too long")
        whole = chunked and _is_last_chunk(body)
    if wanted not in {None, len(body)}:
        raise ValueError("the answer was cut off")
    if chunked:
        body = _joined(body, deadline)
    text = bytes(body)
    check_size(text)
    return head, text


def _read_head(connection: socket.socket) -> tuple[bytes, bytearray]:
    """The head, and what has come of the body with it."""
    raw = bytearray()
    while _END_OF_HEAD not in raw:
        block = connection.recv(1 << 17)
        if not block or len(raw) > _LONGEST_HEAD:
            raise ValueError("the answer has no head, or no end of it")
        raw += block
    head, _, body = raw.partition(_END_OF_HEAD)
    return bytes(head), body


def _is_last_chunk(body: bytearray) -> bool:
    return body.endswith(_LAST_CHUNK) or body == _LAST_CHUNK[2:]


def _joined(body: bytearray, deadline: float) -> bytearray:
    """The parts of a chunked body (RFC 9112, section 7.1), without its trailers.

    Raises:
        ValueError: the last part is missing.
        TimeoutError: there are so many that the deadline has passed.
    """
    joined = bytearray()
    at = 0
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end].partition(b";")[0], 16)
        at = end + 2
        if size == 0:
            return joined
        if size < 0 or at + size + 2 > len(body):
            raise ValueError("the answer was cut off")
        joined += body[at : at + size]
        at += size + 2
        if time.monotonic() > deadline:
            raise TimeoutError
