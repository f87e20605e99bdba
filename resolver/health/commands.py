"""A command as a probe: no shell, no input, a deadline, and nothing of it left behind.

It runs in a session of its own. When it has ended, or its time is up, what is left of its process
group is killed; at the deadline so are its descendants in other groups. Nobody else is signalled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
from msgspec import Struct

from resolver.health.model import Answer, Level
from resolver.health.talks import READ, Wait

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from resolver.health.talks import Talk

_BLOCK = 16 << 10
_KEPT = 4096  # bytes of its output, the last ones
_QUOTED = 120  # characters of its last line
_FIRST_TICK_SECONDS, _LONGEST_TICK_SECONDS = 0.005, 0.05


class Order(Struct, frozen=True):
    """A command, where it is run, and in which environment."""

    argv: tuple[str, ...]
    place: str
    environ: Mapping[str, str]


def run(order: Order) -> Talk:
    """The answer of a command: good where it ends with 0. TimeoutError is thrown in at its end."""
    begun = time.monotonic()
    program = ascii(order.argv[0])
    try:
        child = _start(order)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        return Answer("", Level.UNKNOWN, f"{program} cannot be run: {why}")
    with child:
        output = bytearray()
        try:
            yield from _ended(child, output)
            reason, good = _outcome(child, program, bytes(output))
        except TimeoutError:
            reason, good = f"{program} does not end in time", False
            _kill_family(child)
        finally:
            _kill_group(child)
    level = Level.SPEAKS if good else Level.ACCEPTS
    return Answer("", level, reason, time.monotonic() - begun, good=good)


def _start(order: Order) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        list(order.argv),
        cwd=order.place or None,
        env=dict(order.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        bufsize=0,
    )
    if child.stdout:
        os.set_blocking(child.stdout.fileno(), False)
    return child


def _ended(child: subprocess.Popen[bytes], output: bytearray) -> Generator[Wait]:
    """Waits until it has ended, and reads along; its children may keep its output open longer."""
    tick = _FIRST_TICK_SECONDS
    pipe = child.stdout.fileno() if child.stdout else -1
    while True:
        gone = _has_ended(child)
        more = _read(pipe, output) if pipe >= 0 else None
        if gone:
            return
        if more is None:
            pipe = -1
        yield Wait(pipe, READ, tick)
        tick = min(tick * 2, _LONGEST_TICK_SECONDS)


def _read(pipe: int, output: bytearray) -> int | None:
    """How much came; None at the end."""
    try:
        block = os.read(pipe, _BLOCK)
    except BlockingIOError:
        return 0
    output += block
    del output[:-_KEPT]
    return len(block) or None


def _has_ended(child: subprocess.Popen[bytes]) -> bool:
    """Whether it has; as long as it is not reaped, its process group is nobody else's."""
    if sys.platform != "linux":
        return child.poll() is not None
    try:
        return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _outcome(child: subprocess.Popen[bytes], program: str, output: bytes) -> tuple[str, bool]:
    status = _status(child)
    if status == 0:
        return f"{program} succeeds", True
    if status is None:
        return f"{program} has ended, and nobody knows how: SIGCHLD is ignored here", False
    lines = output.decode("utf-8", "backslashreplace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    how = f"exit status {status}" if status > 0 else f"ended by signal {-status}"
    return f"{program}: {how}" + (f": {said[:_QUOTED]!a}" if said else ""), False


def _status(child: subprocess.Popen[bytes]) -> int | None:
    """Its exit status, without reaping it where that can be had."""
    if sys.platform != "linux":
        return child.returncode
    try:
        found = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def _is_known(child: subprocess.Popen[bytes]) -> bool:
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # reaped by the kernel, as SIGCHLD is ignored here
        return False
    return True


def _kill_family(child: subprocess.Popen[bytes]) -> None:
    """Its descendants, in whatever group they are; psutil compares when each was started."""
    try:
        family = psutil.Process(child.pid).children(recursive=True)
    except psutil.Error:
        return
    for each in family:
        with contextlib.suppress(psutil.Error):
            each.kill()


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    """What is left of its group, as long as the child is not reaped, and its number its own."""
    if child.returncode is None and (sys.platform != "linux" or _is_known(child)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
