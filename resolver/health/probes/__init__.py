"""Asks addresses and commands whether a service works: all at once, each with a deadline.

One file for each kind of probe, with one function: a connected `Peer` and a `Question` → what came
of it. No peer can keep anybody waiting, and fifty of them take as long as the slowest.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from resolver.health.model import Answer, Reach
from resolver.health.probes import command, http, postgres, redis, tcp
from resolver.health.probes.peer import Peer, ProbeResult, Question, TooLongError, failed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from resolver.health.probes.command import ProbeCommand

    Ask = Callable[[Peer, Question], Awaitable[ProbeResult]]

_T = TypeVar("_T")
AT_ONCE = 100  # questions: each takes a descriptor or two, of which there may be 256
PROBES: dict[str, Ask] = {
    "tcp": tcp.ask,
    "http": http.ask,
    "https": http.ask_securely,
    "redis": redis.ask,
    "postgres": postgres.ask,
}
"""By the kind of the probe; a port without one, and one with a command, is asked by `tcp`."""


def run(asking: Coroutine[Any, Any, _T]) -> _T:
    """`asyncio.run`; in a thread of its own where this one has a loop already, as notebooks do."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(asking)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, asking).result()


async def ask(questions: Sequence[Question | ProbeCommand]) -> tuple[Answer, ...]:
    """The answers, in the order of the questions.

    To cancel it ends every connection and every command.
    """
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(question: Question | ProbeCommand) -> Answer:
        async with limit:
            if isinstance(question, Question):
                return await _of_address(question)
            return await command.ask(question)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(each)) for each in questions]
    return tuple(task.result() for task in tasks)


async def _of_address(question: Question) -> Answer:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    deadline = begun + question.seconds
    family = socket.AF_INET6 if ":" in question.address else socket.AF_INET
    try:
        connection = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        return Answer(question.address, Reach.UNKNOWN, f"no connection: {_why(error)}")
    with connection, contextlib.closing(Peer(connection)) as peer:
        level, result = await _connected(connection, question, deadline)
        if level is Reach.ACCEPTS:
            result = await _conversed(peer, question, deadline)
            level = Reach.SPEAKS if result.speaks else Reach.ACCEPTS
        seconds = loop.time() - begun
        if result.status:
            await peer.hear_out()
    return Answer(question.address, level, result.reason, seconds, result.status, result.good)


async def _connected(
    connection: socket.socket, question: Question, deadline: float
) -> tuple[Reach, ProbeResult]:
    """ACCEPTS where it is, else why not."""
    connection.settimeout(0)
    where = (question.address, question.port)
    try:
        async with asyncio.timeout_at(deadline):
            await asyncio.get_running_loop().sock_connect(connection, where)
    except TimeoutError:
        return Reach.UNKNOWN, failed("no connection in time")
    except ConnectionRefusedError:
        return Reach.FREE, failed("connection refused")
    except OSError as error:
        return Reach.UNKNOWN, failed(f"no connection: {_why(error)}")
    to_itself = False  # by chance, where the port is one for outgoing connections (RFC 9293)
    with contextlib.suppress(OSError):
        to_itself = connection.getsockname() == connection.getpeername()
    return (Reach.FREE if to_itself else Reach.ACCEPTS), failed("connection refused")


async def _conversed(peer: Peer, question: Question, deadline: float) -> ProbeResult:
    """What a connection that was made brought."""
    kind = question.probe.kind if question.probe else "tcp"
    try:
        async with asyncio.timeout_at(deadline):
            return await PROBES.get(kind, tcp.ask)(peer, question)
    except TimeoutError:
        some = "does not end its answer" if peer.heard else peer.silence
        return failed(f"accepts the connection, and {some} in time")
    except TooLongError:
        return failed("sends more than any answer has")
    except OSError as error:
        return failed(f"accepts the connection, and ends it: {error.strerror or error}")


def _why(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
