"""Proves on this machine what `hold.py` promises, with processes and ports of its own.

The ports are picked here, below the ephemeral range but for one check, and are let go at the end.
Nothing else is touched, nothing is written, and nobody is signalled but the checks' own children.
What cannot be found out is not passed: `passed` is None.
"""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import socket
import struct
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

from msgspec import Struct

from resolver.errors import ReservedError, UltraPortsError
from resolver.model import ANY_IPV4, ANY_IPV6, PortNumber, PortRequest
from resolver.reservations.assigning.ephemeral import ephemeral_range
from resolver.reservations.holding.hold import Hold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

RACERS = 64
CANDIDATES = 80  # more than racers: a stranger may take one meanwhile
HELD, DRAWS = 200, 4000  # by chance alone, some 28 of these would be among those
EXPECTED_AT_LEAST = 10.0  # e^-10: such luck is nobody's
_FIRST = 10_000  # below it live ports that somebody knows by heart
_ADDRESSES = (ANY_IPV4, "127.0.0.1", ANY_IPV6, "::1")
_ABORTING = struct.pack("ii", 1, 0)  # SO_LINGER: no TIME_WAIT is left of a connection


class Check(Struct, frozen=True):
    """One promise, whether it is kept, and what was found; None where that is not known."""

    name: str
    promise: str
    passed: bool | None
    found: str


def checks() -> Iterator[Check]:
    """Every check as it is carried out, within a few seconds."""
    for name, promise, check in (
        ("distinct", f"of {RACERS} processes that race for ports, no two get the same one", _race),
        ("plain", "who binds a held port plainly is refused", _plain_is_refused),
        ("again", "a held port is not held a second time", _again_is_refused),
        ("server", "a server that sets SO_REUSEADDR serves under the hold", _server_gets_in),
        ("ephemeral", "the kernel gives a held port to nobody by chance", _ephemeral_avoids),
        ("killed", "a hold ends with its process, by SIGKILL too", _dies_with_its_process),
    ):
        try:
            passed, found = check()
        except (OSError, UltraPortsError) as error:
            passed, found = None, f"could not be found out: {error}"
        yield Check(name, promise, passed, found)


def comparison() -> str:
    """What becomes of the same race where a port is chosen by binding it and letting it go."""
    got = _raced(_pick, _candidates())
    return f"{len(got)} of {RACERS} processes got a port, {len(set(got))} different"


def _race() -> tuple[bool, str]:
    got = _raced(_hold, _candidates())
    found = f"{len(got)} of {RACERS} got one, {len(set(got))} different"
    return len(got) == len(set(got)) == RACERS, found


def _hold(port: int, kept: ExitStack) -> None:
    kept.enter_context(Hold.take(_request(port), patient=False))


def _pick(port: int, _: ExitStack) -> None:
    with socket.socket() as probe:
        probe.bind((ANY_IPV4, port))


def _raced(take: Callable[[int, ExitStack], None], candidates: Sequence[int]) -> list[int]:
    """The ports that the racers got, all of them tried in the same order, and kept to the end."""
    start, starting = os.pipe()
    finish, finishing = os.pipe()
    told, telling = os.pipe()
    children = []
    for _ in range(RACERS):
        pid = os.fork()
        if pid == 0:
            os.close(starting)
            os.close(finishing)
            _race_one(take, candidates, (start, finish, telling))
        children.append(pid)
    for each in (start, finish, telling, starting):
        os.close(each)  # the last one is the starting shot
    try:
        return [port for port in _read_all(told, RACERS) if port]
    finally:
        os.close(finishing)
        os.close(told)
        for pid in children:
            os.waitpid(pid, 0)


def _race_one(
    take: Callable[[int, ExitStack], None], candidates: Sequence[int], pipes: tuple[int, int, int]
) -> NoReturn:
    start, finish, telling = pipes
    got = 0
    try:
        os.read(start, 1)  # ends when the parent has closed its side
        with ExitStack() as kept:
            for port in candidates:
                with suppress(OSError, UltraPortsError):
                    take(port, kept)
                    got = port
                    break
            os.write(telling, struct.pack("=H", got))
            os.read(finish, 1)
    finally:
        os._exit(0)


def _read_all(pipe: int, count: int) -> list[int]:
    raw = b""
    while len(raw) < 2 * count and (more := os.read(pipe, 2 * count - len(raw))):
        raw += more
    return list(struct.unpack(f"={len(raw) // 2}H", raw))


def _plain_is_refused() -> tuple[bool, str]:
    with _held() as request:
        found = {address: _served(address, request.port, reuse=False) for address in _families()}
    return _all(found, errno.EADDRINUSE), _said(found)


def _server_gets_in() -> tuple[bool, str]:
    with _held() as request:
        found = {address: _served(address, request.port, reuse=True) for address in _families()}
    return _all(found, 0), _said(found)


def _again_is_refused() -> tuple[bool, str]:
    with _held() as request:
        try:
            Hold.take(request).release()
        except ReservedError as error:
            return True, str(error)
    return False, f"{request} was held twice"


def _dies_with_its_process() -> tuple[bool, str]:
    [port] = _free_ports(1)
    told, telling = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with Hold.take(_request(port)):
                os.write(telling, b".")
                signal.pause()
        finally:
            os._exit(1)
    os.close(telling)
    ready = os.read(told, 1)
    os.close(told)
    held = _served(ANY_IPV4, port, reuse=False) == errno.EADDRINUSE
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    after = _served(ANY_IPV4, port, reuse=False)
    return bool(ready) and held and after == 0, f"then {_word(after)}"


def _ephemeral_avoids() -> tuple[bool | None, str]:
    """Draws ephemeral ports until chance alone would have hit a held one many times over."""
    known = ephemeral_range()
    size = known.last - known.first + 1
    limit = min(HELD, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2, size // 4)
    with ExitStack() as kept:
        held = set()
        for port in random.sample(range(known.first, known.last + 1), limit):
            with suppress(ReservedError):
                kept.enter_context(Hold.take(_request(port), patient=False))
                held.add(port)
        drawn = list(_drawn(DRAWS))
    hits = sum(port in held for port in drawn)
    expected = len(held) * len(drawn) / size
    found = f"{hits} of {len(drawn)} ports were held ones; by chance it would be {expected:.0f}"
    if hits:
        return False, found
    return (True if expected >= EXPECTED_AT_LEAST else None), found


def _drawn(count: int) -> Iterator[int]:
    """Ports from the kernel, in turn by bind(2) of port 0 and by connect(2)."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        there = server.getsockname()
        for number in range(count):
            with socket.socket() as drawing:
                if number % 2:
                    drawing.bind(("127.0.0.1", 0))
                    yield drawing.getsockname()[1]
                    continue
                drawing.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORTING)
                drawing.connect(there)
                server.accept()[0].close()
                yield drawing.getsockname()[1]


@contextmanager
def _held() -> Iterator[PortRequest]:
    [port] = _free_ports(1)
    with Hold.take(_request(port)) as hold:
        yield hold.request


def _request(port: int) -> PortRequest:
    return PortRequest(PortNumber(port))


def _candidates() -> list[int]:
    return _free_ports(CANDIDATES)


def _free_ports(count: int) -> list[int]:
    """Ports that can be bound, side by side, from a place where chance has led.

    Raises:
        ReservedError: there are not so many.
    """
    low, high = _FIRST, max(ephemeral_range().first, _FIRST + 1000) - 1
    first = random.randrange(low, high)  # noqa: S311 - no secret
    found = []
    for port in (*range(first, high), *range(low, first)):
        if all(_served(address, port, reuse=False, listens=False) == 0 for address in _families()):
            found.append(port)
            if len(found) == count:
                return found
    raise ReservedError(f"there are no {count} free ports from {low} to {high}")


def _families() -> list[str]:
    """The addresses to try: those that this machine has."""
    return [each for each in _ADDRESSES if _served(each, 0, reuse=False) == 0]


def _served(address: str, port: int, *, reuse: bool, listens: bool = True) -> int:
    """What a server gets that binds there: 0, or an errno."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reuse))
            server.bind((address, port))
            if listens:
                server.listen(1)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _all(found: dict[str, int], wanted: int) -> bool:
    return bool(found) and set(found.values()) == {wanted}


def _said(found: dict[str, int]) -> str:
    return ", ".join(f"{address}: {_word(number)}" for address, number in found.items())


def _word(number: int) -> str:
    return errno.errorcode.get(number, str(number)) if number else "bound"
