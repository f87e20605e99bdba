"""One address of one port is asked: does it accept, and does it say what the probe wants."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.health import tls
from resolver.health.line import Line, TooLongError, connect
from resolver.health.model import Answer, Level
from resolver.health.speaking import SPEAKERS, Said

if TYPE_CHECKING:
    from collections.abc import Generator

    from resolver.health.talks import Talk, Wait
    from resolver.project.model import Probe

PATIENCE_SECONDS = 0.3  # for a forwarder to hang up, where nothing listens behind it


class Question(Struct, frozen=True):
    """What is asked, and where; `forwarded` says that a forwarder may accept for a program."""

    address: str
    port: int
    probe: Probe | None
    forwarded: bool = False


def exists(address: str) -> bool:
    """Whether this machine has such an address to send from; nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 1))
    except OSError:
        return False
    return True


def ask(question: Question) -> Talk:
    """The answer of one address. Where its time is up, TimeoutError is thrown in."""
    begun = time.monotonic()
    level, said = yield from _asked(question)
    seconds = time.monotonic() - begun
    return Answer(question.address, level, said.reason, seconds, said.status, said.good)


def _asked(question: Question) -> Generator[Wait, None, tuple[Level, Said]]:
    family = socket.AF_INET6 if ":" in question.address else socket.AF_INET
    try:
        connection = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        return Level.UNKNOWN, _bad(f"no connection: {error.strerror or error}")
    with connection:
        connection.settimeout(0)
        try:
            yield from connect(connection, question.address, question.port)
        except TimeoutError:
            return Level.UNKNOWN, _bad("no connection in time")
        except ConnectionRefusedError:
            return Level.FREE, _bad("connection refused")
        except OSError as error:
            return Level.UNKNOWN, _bad(f"no connection: {error.strerror or error}")
        return (yield from _heard(question, connection))


def _heard(
    question: Question, connection: socket.socket
) -> Generator[Wait, None, tuple[Level, Said]]:
    """What a connection that was made brought."""
    line = Line(connection)
    try:
        said = yield from _speak(question, line)
    except TimeoutError:
        some = "does not end its answer" if line.heard else "says nothing"
        said = _bad(f"accepts the connection, and {some} in time")
    except TooLongError:
        said = _bad("sends more than any answer has")
    except OSError as error:
        said = _bad(f"accepts the connection, and ends it: {error.strerror or error}")
    return Level.SPEAKS if said.speaks else Level.ACCEPTS, said


def _speak(question: Question, line: Line) -> Generator[Wait, None, Said]:
    probe = question.probe
    if probe is None or probe.kind not in SPEAKERS:
        return (yield from _silent(question, line))
    if probe.kind != "https":
        return (yield from SPEAKERS[probe.kind](line, probe, question.port))
    secure = tls.SecureLine(line.connection, probe.host)
    try:
        try:
            yield from secure.shake_hands()
        except TimeoutError:
            return _bad("accepts the connection, and says nothing of TLS in time")
        except OSError as error:
            return _bad(f"accepts the connection, and TLS fails: {tls.why(error)}")
        said = yield from SPEAKERS[probe.kind](secure, probe, question.port)
    finally:
        line.heard = secure.heard
        secure.close()
    return said


def _silent(question: Question, line: Line) -> Generator[Wait, None, Said]:
    """A connection is all that is wanted; a forwarder makes it, and may hang up at once."""
    accepts = Said(speaks=False, good=True, reason="accepts connections")
    if not question.forwarded:
        return accepts
    try:
        greeted = yield from line.more(PATIENCE_SECONDS)
    except TimeoutError:
        return accepts
    if greeted:
        return Said(speaks=False, good=True, reason="accepts connections, and greets")
    return _bad("accepts the connection, and ends it at once")


def _bad(reason: str) -> Said:
    return Said(speaks=False, good=False, reason=reason)
