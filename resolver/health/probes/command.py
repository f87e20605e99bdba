"""A command as a probe: no shell, no input, a deadline, and nothing of it left behind.

It runs in a session of its own. When it has ended, or its time is up, what is left of its process
group is killed; at the deadline so are its descendants in other groups. Nobody else is signalled.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, STDOUT, Process
from typing import TYPE_CHECKING

import psutil
from msgspec import Struct

from resolver.health.model import Answer, Reach

if TYPE_CHECKING:
    from collections.abc import Mapping

_BLOCK = 64 << 10  # bytes: all that a pipe holds (pipe(7))
_KEPT = 4096  # bytes of its output, the last ones
_QUOTED = 120  # characters of its last line


class ProbeCommand(Struct, frozen=True):
    """A command, where it is run, in which environment, and how many seconds it may take."""

    argv: tuple[str, ...]
    place: str
    environ: Mapping[str, str]
    seconds: float


async def ask(command: ProbeCommand) -> Answer:
    """Good where it ends with 0; a command that succeeds counts as SPEAKS."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    program = ascii(command.argv[0])
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        return Answer("", Reach.UNKNOWN, f"{program} is not run: SIGCHLD is ignored here")
    with contextlib.closing(_Output()) as output:
        try:
            child = await _start(command, output.sink)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            return Answer("", Reach.UNKNOWN, f"{program} cannot be run: {why}")
        if await _ends(child, command.seconds):
            output.read()
            reason = f"{program}{_outcome(child.returncode or 0, bytes(output.tail))}"
            good = child.returncode == 0
        else:
            reason, good = f"{program} does not end in time", False
    level = Reach.SPEAKS if good else Reach.ACCEPTS
    return Answer("", level, reason, loop.time() - begun, good=good)


async def _start(command: ProbeCommand, sink: int) -> Process:
    return await asyncio.create_subprocess_exec(
        *command.argv,
        cwd=command.place or None,
        env=command.environ,
        stdin=DEVNULL,
        stdout=sink,
        stderr=STDOUT,
        start_new_session=True,
    )


async def _ends(child: Process, seconds: float) -> bool:
    """Whether it ends in time; either way nothing of its group is left."""
    try:
        async with asyncio.timeout(seconds):
            await child.wait()
    except TimeoutError:
        return False
    finally:
        if child.returncode is None:
            _kill_descendants(child.pid)
        _kill_group(child.pid)
        await child.wait()
    return True


class _Output:
    """The last bytes of what is written to `sink`.

    With a pipe of asyncio's own, to wait for a command is to wait for all that have its output.
    """

    def __init__(self) -> None:
        self.tail = bytearray()
        self._source, self.sink = os.pipe()
        os.set_blocking(self._source, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._source, self.read)

    def read(self) -> None:
        """Takes what is there."""
        with contextlib.suppress(BlockingIOError):
            self.tail += os.read(self._source, _BLOCK)
            del self.tail[:-_KEPT]

    def close(self) -> None:
        """Closes both ends."""
        self._loop.remove_reader(self._source)
        os.close(self._source)
        os.close(self.sink)


def _outcome(status: int, output: bytes) -> str:
    """How it ended, and its last line."""
    if status == 0:
        return " succeeds"
    lines = output.decode("utf-8", "backslashreplace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    how = f"exit status {status}" if status > 0 else f"ended by signal {-status}"
    return f": {how}" + (f": {last[:_QUOTED]!a}" if last else "")


def _kill_descendants(pid: int) -> None:
    """In whatever group they are; psutil compares when each was started."""
    try:
        family = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return
    for each in family:
        with contextlib.suppress(psutil.Error):
            each.kill()


def _kill_group(number: int) -> None:
    """Kills a child's process group, which may have outlived the child.

    A process of that number that is no child of ours came later, and so did its group.
    """
    try:
        ours = psutil.Process(number).ppid() == os.getpid()
    except psutil.NoSuchProcess:
        ours = True
    if ours:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(number, signal.SIGKILL)
