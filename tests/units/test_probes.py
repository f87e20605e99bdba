"""Probes: whatever a peer says, they end in time, with an answer that means something."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from resolver.health import probes
from resolver.health.model import Answer, Reach
from resolver.health.probes import PROBES
from resolver.health.probes.command import ProbeCommand
from resolver.health.probes.peer import LONGEST, Peer, ProbeResult, Question, TooLongError
from resolver.project.model import Probe
from tests.lab.ports import free_range

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def spoken(kind: str, heard: bytes) -> ProbeResult | None:
    """What a probe makes of an answer that ends after these bytes; None: it was too long."""

    async def speak() -> ProbeResult | None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(heard)
            theirs.shutdown(socket.SHUT_WR)
            ours.settimeout(0)
            peer = Peer(ours)
            try:
                return await PROBES[kind](peer, Question("", 80, Probe(kind), 30.0))
            except TooLongError:
                return None
            finally:
                peer.close()

    return asyncio.run(speak())


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

    async def listen() -> int:
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        theirs.settimeout(0)
        peer = Peer(ours)

        async def flood() -> None:
            while True:
                await asyncio.get_running_loop().sock_sendall(theirs, b"x" * 1000)

        with ours, theirs:
            await peer.open()
            flooding = asyncio.create_task(flood())
            assert await peer.has(LONGEST)
            with pytest.raises(TooLongError):
                await peer.more()
            flooding.cancel()
            peer.close()
        return len(peer.heard)

    assert asyncio.run(listen()) == LONGEST


@pytest.fixture
def mute() -> Iterator[int]:
    """A port whose server accepts, by the kernel's queue, and never says anything."""
    with socket.create_server(("127.0.0.1", 0), backlog=300) as server:
        yield server.getsockname()[1]


def test_answers_come_in_the_order_of_the_questions(mute: int) -> None:
    closed = free_range(1)
    questions = [
        Question("127.0.0.1", mute if number % 2 else closed, None, 30.0)
        for number in range(2 * probes.AT_ONCE + 1)
    ]
    levels = [answer.level for answer in probes.run(probes.ask(questions))]
    assert levels == [
        Reach.ACCEPTS if number % 2 else Reach.FREE for number in range(len(questions))
    ]
    assert probes.run(probes.ask([])) == ()


def test_they_wait_at_the_same_time(mute: int) -> None:
    began = time.monotonic()
    answers = probes.run(probes.ask([Question("127.0.0.1", mute, Probe("http"), 0.3)] * 50))
    assert {answer.reason for answer in answers} == {
        "accepts the connection, and says nothing in time"
    }
    assert time.monotonic() - began < 0.3 * 25


def test_they_can_be_asked_where_a_loop_runs_already(mute: int) -> None:
    async def asked() -> Reach:
        [answer] = probes.run(probes.ask([Question("127.0.0.1", mute, None, 30.0)]))
        return answer.level

    assert asyncio.run(asked()) is Reach.ACCEPTS


@pytest.mark.parametrize(
    ("says", "good", "reason"),
    [
        (None, True, "accepts connections"),
        (b"220 hello", True, "accepts connections, and greets"),
        (b"", False, "accepts the connection, and ends it at once"),
    ],
)
def test_a_forwarder_may_accept_for_nobody(says: bytes | None, *, good: bool, reason: str) -> None:
    async def asked() -> Answer:
        writers = []

        async def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            if says is not None:
                writer.write(says)
                writer.close()

        async with await asyncio.start_server(accepted, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            [answer] = await probes.ask([Question("127.0.0.1", port, None, 30.0, forwarded=True)])
            for each in writers:
                each.close()
                with contextlib.suppress(OSError):
                    await each.wait_closed()
            return answer

    answer = asyncio.run(asked())
    assert (answer.good, answer.reason) == (good, reason)


def test_a_command_that_stays_is_ended() -> None:
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    before = psutil.Process().children()  # such as an engine that other tests have
    quiet = ProbeCommand((sys.executable, "-c", script), "", {}, 1.0)
    [answer] = probes.run(probes.ask([quiet]))
    assert answer.reason == f"{sys.executable!a} does not end in time"
    assert psutil.Process().children() == before


def test_a_command_is_not_run_where_nobody_could_tell_how_it_ended() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        [answer] = probes.run(probes.ask([ProbeCommand(("true",), "", {}, 5.0)]))
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert answer.level is Reach.UNKNOWN
    assert "SIGCHLD" in answer.reason
