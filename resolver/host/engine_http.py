"""One question to an engine through its unix socket: HTTP/1.1 as the Engine API speaks it, no more.

The Docker SDK takes longer to load than everything else that a command does, and its time limit is
for each read, not for the whole answer. It is used where something is to be changed, and for
engines that are not behind a unix socket. Only GET may live here.
"""

from __future__ import annotations

import errno
import socket
import time

from resolver.errors import EngineAbsentError, EngineError, EngineNotPermittedError
from resolver.patterns import pattern

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_LARGEST = 1 << 28  # bytes of an answer; ten thousand containers take some 30 MB
_ABSENT = {errno.ENOENT, errno.ENOTDIR}
_NOT_PERMITTED = {errno.EACCES, errno.EPERM}
_STATUS = pattern(rb"HTTP/1\.[01] (\d{3})\b")
_LENGTH = pattern(rb"(?i)\r\ncontent-length: *(\d+) *(?:\r\n|$)")
_CHUNKED = pattern(rb"(?i)\r\ntransfer-encoding: *chunked *(?:\r\n|$)")


def get(path: str, target: str, timeout_seconds: float) -> tuple[int, bytes]:
    """The status and the body of one answer, which is read to its end.

    Args:
        path: of the unix socket.
        target: `/containers/json` and the like; without a version, the engine's newest applies.
        timeout_seconds: for everything, from connecting to the last byte.

    Raises:
        EngineAbsentError: there is nothing at the path.
        EngineNotPermittedError: this user may not connect.
        EngineError: nobody listens, or the answer is late, too long, cut off, or no HTTP.
    """
    deadline = time.monotonic() + timeout_seconds
    endpoint = f"unix://{path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_seconds)
        _connect(connection, path)
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


def _connect(connection: socket.socket, path: str) -> None:
    try:
        connection.connect(path)
    except TimeoutError as error:
        raise EngineError(f"no engine answers at {path}: {error}") from error
    except OSError as error:
        if error.errno in _ABSENT:
            raise EngineAbsentError(f"there is no engine at {path}") from error
        if error.errno in _NOT_PERMITTED:
            raise EngineNotPermittedError(
                f"this user may not talk to the engine at {path}"
            ) from error
        raise EngineError(f"no engine answers at {path}: {error}") from error


def _read(connection: socket.socket, deadline: float) -> tuple[bytes, bytes]:
    """Head and body; whoever is between us and the engine may keep the connection open.

    Raises:
        ValueError: it is not what the head promises.
        TimeoutError: the deadline has passed.
    """
    raw = bytearray()
    for block in _blocks(connection, deadline):
        raw += block
        if len(raw) > _LARGEST:
            raise ValueError("the answer is too long")
        if _is_whole(raw):
            break
    head, blank, body = bytes(raw).partition(b"\r\n\r\n")
    if not blank:
        raise ValueError("the answer was cut off in its head")
    if _CHUNKED.search(head):
        return head, _joined(body)
    length = _LENGTH.search(head)
    if length and len(body) != int(length[1]):
        raise ValueError("the answer was cut off")
    return head, body


def _is_whole(raw: bytearray) -> bool:
    """Whether the answer says of itself that it has ended: by its length, or by its last chunk."""
    end = raw.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = bytes(raw[:end])
    if _CHUNKED.search(head):
        return raw.endswith(b"\r\n0\r\n\r\n")
    length = _LENGTH.search(head)
    return length is not None and len(raw) - end - 4 >= int(length[1])


def _blocks(connection: socket.socket, deadline: float) -> Iterator[bytes]:
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        block = connection.recv(1 << 17)
        if not block:
            return
        yield block


def _joined(body: bytes) -> bytes:
    """The parts of a chunked body (RFC 9112, section 7.1), without its trailers.

    Raises:
        ValueError: the last part is missing.
    """
    parts: list[bytes] = []
    at = 0
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end].partition(b";")[0], 16)
        at = end + 2
        if size == 0:
            return b"".join(parts)
        if size < 0 or at + size + 2 > len(body):
            raise ValueError("the answer was cut off")
        parts.append(body[at : at + size])
        at += size + 2
