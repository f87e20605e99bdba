"""What is said to a server, and what its answer means: HTTP, Redis and PostgreSQL, as clients.

Small on purpose: each asks one harmless question, reads no more of the answer than tells whether
the server works, and believes nothing of what it says. What is quoted of an answer is in ASCII, and
cut.
"""

from __future__ import annotations

import re
import struct
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver import __version__
from resolver.health.line import TooLongError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from resolver.health.line import Line
    from resolver.health.talks import Wait
    from resolver.project.model import Probe

    Speaker = Callable[[Line, Probe, int], Generator[Wait, None, "Said"]]


class Said(Struct, frozen=True):
    """What came of a question.

    `speaks` says whether the answer was in the protocol's own terms, and `good` whether it is the
    one that is wanted. `status` is HTTP's.
    """

    speaks: bool
    good: bool
    reason: str
    status: int = 0


_LONGEST = 60  # bytes of an answer that are quoted
_LAST_WORDS_SECONDS = 0.2  # for the rest of an answer, so that the server is not cut short
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: |\r?$)")
_HEALTHY = range(200, 400)
_WEB_PORTS = {"http": 80, "https": 443}
# Redis refuses a PING that it understood: it works, and this is nobody it knows
# (https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/)
_STRANGERS = (b"-NOAUTH ", b"-NOPERM ")
# PostgreSQL's message formats: https://www.postgresql.org/docs/current/protocol-message-formats.html
_PROTOCOL_3 = 196608
_LONGEST_MESSAGE = 30_000  # bytes of an ErrorResponse that libpq believes in
_NOT_NOW = b"57P03"  # cannot_connect_now: it is starting, or shutting down
_FULL = b"53300"  # too_many_connections


def http(line: Line, probe: Probe, port: int) -> Generator[Wait, None, Said]:
    """One GET; its status is the answer (RFC 9112). Redirects are not followed."""
    named = f"[{probe.host}]" if ":" in probe.host else probe.host or "localhost"
    host = named if port == _WEB_PORTS[probe.kind] else f"{named}:{port}"
    yield from line.send(
        f"GET {probe.path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: ultra-ports/{__version__}\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n".encode("ascii")
    )
    start = yield from _final_status_line(line)
    match = _STATUS.match(start)
    if not start:
        return Said(speaks=False, good=False, reason="hangs up without an answer")
    if match is None:
        return Said(speaks=False, good=False, reason=f"answers, and not in HTTP: {_quoted(start)}")
    yield from _hear_out(line)
    status = int(match[1])
    wanted = probe.statuses or _HEALTHY
    if status in wanted:
        return Said(speaks=True, good=True, reason=f"HTTP {status}", status=status)
    words = ", ".join(map(str, probe.statuses)) or "200 to 399"
    return Said(speaks=True, good=False, reason=f"HTTP {status}; {words} is wanted", status=status)


def _final_status_line(line: Line) -> Generator[Wait, None, bytes]:
    """The status line of the answer proper; informational ones (1xx) come before it."""
    at = 0
    while True:
        end = yield from _until(line, b"\n", at)
        start = bytes(line.heard[at:end]).rstrip(b"\r")
        match = _STATUS.match(start)
        if match is None or not match[1].startswith(b"1"):
            return start
        while line.heard[at:end].strip(b"\r"):  # its fields, up to the blank line
            at = end + 1
            end = yield from _until(line, b"\n", at)
        at = end + 1


def _until(line: Line, mark: bytes, at: int) -> Generator[Wait, None, int]:
    """Where the mark is, from `at` on; where the peer has ended, the end of what it said."""
    while (found := line.heard.find(mark, at)) < 0:
        if not (yield from line.more()):
            return max(at, len(line.heard))
    return found


def _hear_out(line: Line) -> Generator[Wait]:
    """Hears what is left of a short answer: the status is known, and the server not cut short."""
    until = time.monotonic() + _LAST_WORDS_SECONDS
    try:
        while (left := until - time.monotonic()) > 0 and (yield from line.more(left)):
            pass
    except (OSError, TooLongError):
        return


def redis(line: Line, _probe: Probe, _port: int) -> Generator[Wait, None, Said]:
    """PING (https://redis.io/docs/latest/develop/reference/protocol-spec/)."""
    yield from line.send(b"*1\r\n$4\r\nPING\r\n")
    end = yield from _until(line, b"\n", 0)
    answer = bytes(line.heard[:end]).rstrip(b"\r")
    if answer == b"+PONG":
        return Said(speaks=True, good=True, reason="PONG")
    if answer.startswith(_STRANGERS):
        return Said(speaks=True, good=True, reason="Redis answers, and wants a password")
    if re.match(rb"-[A-Z]+ ", answer):
        return Said(speaks=True, good=False, reason=f"Redis says {_quoted(answer)}")
    if not answer:
        return Said(speaks=False, good=False, reason="hangs up without an answer")
    return Said(speaks=False, good=False, reason=f"answers, and not as Redis: {_quoted(answer)}")


def postgres(line: Line, _probe: Probe, _port: int) -> Generator[Wait, None, Said]:
    """A StartupMessage, and what pg_isready(1) would make of the answer.

    Any refusal but `cannot_connect_now` comes from a server that works, such as one for a role that
    it does not know.
    """
    body = struct.pack("!I", _PROTOCOL_3) + b"user\0postgres\0database\0postgres\0\0"
    yield from line.send(struct.pack("!I", len(body) + 4) + body)
    if not (yield from _enough(line, 5)):
        return _no_postgres(line)
    kind, length = struct.unpack("!cI", line.heard[:5])
    if kind == b"R" and 8 <= length <= _LONGEST_MESSAGE:  # noqa: PLR2004 - Authentication…
        yield from line.send(b"X\0\0\0\4")  # Terminate
        return Said(speaks=True, good=True, reason="PostgreSQL accepts connections")
    if kind != b"E" or not 5 <= length <= _LONGEST_MESSAGE:  # noqa: PLR2004
        return _no_postgres(line)
    if not (yield from _enough(line, 1 + length)):
        return _no_postgres(line)
    return _refused(dict(_fields(bytes(line.heard[5 : 1 + length]))))


def _enough(line: Line, count: int) -> Generator[Wait, None, bool]:
    """Whether so many bytes came."""
    while len(line.heard) < count:
        if not (yield from line.more()):
            return False
    return True


def _fields(body: bytes) -> list[tuple[bytes, bytes]]:
    """The fields of an ErrorResponse: a letter and a text each, with a zero byte between them."""
    return [(field[:1], field[1:]) for field in body.split(b"\0") if field]


def _refused(fields: dict[bytes, bytes]) -> Said:
    code, message = fields.get(b"C", b""), _quoted(fields.get(b"M", b""))
    if not code:
        return Said(speaks=False, good=False, reason=f"answers, and not as PostgreSQL: {message}")
    good = code not in {_NOT_NOW, _FULL}
    words = "PostgreSQL answers" if good else "PostgreSQL takes no connection"
    return Said(speaks=True, good=good, reason=f"{words}: {message}")


def _no_postgres(line: Line) -> Said:
    if not line.heard:
        return Said(speaks=False, good=False, reason="hangs up without an answer")
    said = _quoted(bytes(line.heard))
    return Said(speaks=False, good=False, reason=f"answers, and not as PostgreSQL: {said}")


def _quoted(said: bytes) -> str:
    """An answer as a message quotes it."""
    text = ascii(said[:_LONGEST].decode("utf-8", "backslashreplace"))
    return f"{text}..." if len(said) > _LONGEST else text


SPEAKERS: dict[str, Speaker] = {"http": http, "https": http, "redis": redis, "postgres": postgres}
"""By the kind of the probe."""
