"""Conversations: whatever a peer says, they end in time, with an answer that means something."""

from __future__ import annotations

import contextlib
import socket
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from resolver.health.line import LONGEST, Line, TooLongError
from resolver.health.model import Answer, Level
from resolver.health.speaking import SPEAKERS, Said
from resolver.health.talks import AT_ONCE, Appointment, Wait, converse
from resolver.project.model import Probe

if TYPE_CHECKING:
    from resolver.health.talks import Talk

GOOD = {
    "http": (b"HTTP/1.1 2", b"HTTP/1.1 3", b"HTTP/1.0 2", b"HTTP/1.0 3", b"HTTP/1.1 1"),
    "redis": (b"+PONG", b"-NOAUTH ", b"-NOPERM "),
    "postgres": (b"R\0\0", b"E\0\0"),
}
PIECES = (
    *(b"HTTP/1.1 ", b"200 OK", b"103 ", b"99", b"\r\n", b"\n", b"\r\n\r\n", b"+PONG", b"-NOAUTH "),
    *(b"-ERR ", b"R", b"E", b"\0\0\0\x08", b"\0\0\0\0", b"SFATAL\0", b"C57P03\0", b"Mno\0", b"\0"),
    *(b"\xff\xfe", b"\x1b[2J", b"\xff\xff\xff\xff"),
)


def spoken(kind: str, heard: bytes) -> Said | None:
    """What a probe makes of an answer that ends after these bytes; None: it was too long."""
    ours, theirs = socket.socketpair()
    found: list[Said | None] = []

    def talk(line: Line) -> Talk:
        try:
            found.append((yield from SPEAKERS[kind](line, Probe(kind), 80)))
        except TooLongError:
            found.append(None)
        return Answer("", Level.ACCEPTS)

    with ours, theirs:
        ours.settimeout(0)
        theirs.sendall(heard)
        theirs.shutdown(socket.SHUT_WR)
        converse([Appointment(partial(talk, Line(ours)), 30.0)])
    return found[0]


@pytest.mark.parametrize("kind", sorted(GOOD))
@given(heard=st.lists(st.sampled_from(PIECES) | st.binary(max_size=8), max_size=12).map(b"".join))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(heard=b"")
@example(heard=b"HTTP/1.1 100 Continue\r\n")
@example(heard=b"HTTP/1.1 100 Continue\r\n\r\n")
@example(heard=b"E\0\0\0\x04")
@example(heard=b"R\0\0\0\x08")
def test_only_the_right_words_are_good(kind: str, heard: bytes) -> None:
    said = spoken(kind, heard)
    assert said is not None
    assert said.reason
    assert said.reason.isascii()
    assert said.reason.isprintable()
    assert not said.good or said.speaks
    assert not said.good or heard.startswith(GOOD[kind])


@pytest.mark.parametrize(
    ("kind", "heard", "expected"),
    [
        ("http", b"HTTP/1.1 204\r\n\r\n", (True, True)),
        ("http", b"HTTP/1.1 200 ", (True, True)),
        ("http", b"HTTP/1.1 2000 OK\r\n", (False, False)),
        ("http", b"HTTP/1.1 099 OK\r\n", (False, False)),
        ("http", b"HTTP/2 200\r\n", (False, False)),
        ("http", b"http/1.1 200 OK\r\n", (False, False)),
        ("http", b"HTTP/1.1 103 E\r\nA: b\r\n\r\nHTTP/1.1 500 X\r\n\r\n", (True, False)),
        ("http", b"HTTP/1.1 101 Switching Protocols\r\n\r\n", (False, False)),
        ("http", b"HTTP/1.1 404 200 OK\r\n", (True, False)),
        ("redis", b"+PONG\r\n", (True, True)),
        ("redis", b"+PONGO\r\n", (False, False)),
        ("redis", b"-NOAUTH Authentication required.\r\n", (True, True)),
        ("redis", b"-MASTERDOWN Link with MASTER is down\r\n", (True, False)),
        ("redis", b"HTTP/1.1 400 Bad Request\r\n", (False, False)),
        ("postgres", b"R\0\0\0\x08\0\0\0\0", (True, True)),
        ("postgres", b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0", (True, True)),
        ("postgres", b"E\0\0\0\x0cC28000\0\0", (True, True)),
        ("postgres", b"E\0\0\0\x0cC57P03\0\0", (True, False)),
        ("postgres", b"E\0\0\0\x0cC53300\0\0", (True, False)),
        ("postgres", b"EFATAL:  unsupported frontend protocol\n\0", (False, False)),
        ("postgres", b"E\xff\xff\xff\xff", (False, False)),
        ("postgres", b"R\xff\xff\xff\xff", (False, False)),
        ("postgres", b"E\0\0\0\x06\0", (False, False)),
        ("postgres", b"RTSP/1.0 400 Bad Request\r\n", (False, False)),
    ],
)
def test_what_answers_mean(kind: str, heard: bytes, expected: tuple[bool, bool]) -> None:
    said = spoken(kind, heard)
    assert said is not None
    assert (said.speaks, said.good) == expected, said


def test_nobody_is_heard_for_ever() -> None:
    """Not a byte more than the limit is kept, however much there is."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0)
        theirs.settimeout(0)
        line = Line(ours)

        def talk() -> Talk:
            try:
                while True:
                    with contextlib.suppress(BlockingIOError):
                        theirs.send(b"x" * 1000)
                    yield from line.more()
            except TooLongError:
                return Answer("", Level.ACCEPTS, "too long")

        [answer] = converse([Appointment(talk, 30.0)])
    assert answer.reason == "too long"
    assert len(line.heard) == LONGEST


def sleeper(seconds: float, number: int) -> Talk:
    try:
        yield Wait(seconds=seconds)
    except TimeoutError:
        return Answer("", Level.FREE, f"late {number}")
    return Answer("", Level.SPEAKS, f"{number}")


def test_answers_come_in_the_order_of_the_questions() -> None:
    appointments = [
        Appointment(partial(sleeper, 0.05 if number % 2 else 0.0, number), 30.0)
        for number in range(2 * AT_ONCE + 1)
    ]
    answers = converse(appointments)
    assert [answer.reason for answer in answers] == [str(number) for number in range(len(answers))]


def test_they_wait_at_the_same_time() -> None:
    began = time.monotonic()
    answers = converse([Appointment(partial(sleeper, 3600.0, number), 0.3) for number in range(50)])
    assert {answer.level for answer in answers} == {Level.FREE}
    assert time.monotonic() - began < 0.3 * 25


def test_one_that_does_not_heed_its_deadline_is_told_again() -> None:
    def stubborn() -> Talk:
        for _ in range(3):
            try:
                yield Wait(seconds=3600.0)
            except TimeoutError:
                continue
        return Answer("", Level.FREE, "at last")

    [answer] = converse([Appointment(stubborn, 0.01)])
    assert answer.reason == "at last"


def test_what_ends_early_lets_go() -> None:
    ended: list[int] = []

    def patient() -> Talk:
        try:
            yield Wait(seconds=3600.0)
        finally:
            ended.append(1)
        return Answer("", Level.FREE)

    def broken() -> Talk:
        yield Wait(seconds=0.0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        converse([Appointment(patient, 3600.0), Appointment(broken, 3600.0)])
    assert ended == [1]
    assert converse([]) == ()
