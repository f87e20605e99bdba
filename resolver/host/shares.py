"""One loop of system calls, shared among the processors by fork(2).

What a scan of /proc costs is spent in the kernel, one link after the other. Children that do
nothing but read and report take a share each; whatever one of them fails to do, the parent does.
"""

from __future__ import annotations

import os
import struct
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Pairs = Iterable[tuple[int, int]]

_MOST = 4  # processes, this one included: the kernel's locks eat what more of them would save
_PAIR = struct.Struct("=qQ")
_COMPLETE = b"complete"


def shared(work: Sequence[int], do: Callable[[Sequence[int]], Pairs]) -> list[tuple[int, int]]:
    """What `do` finds in all the work, in no particular order.

    `do` must only read: it runs in this process and in short-lived children, on a part each.
    Where there is one processor, or this process has several threads, nothing is forked.
    """
    count = min(_MOST, len(os.sched_getaffinity(0))) if _may_fork() else 1
    parts = [work[number::count] for number in range(count)]
    children = [(part, *_start(part, do)) for part in parts[1:]]
    found = list(do(parts[0]))
    for part, pid, reader in children:
        theirs = _collect(pid, reader)
        found += do(part) if theirs is None else theirs
    return found


def _may_fork() -> bool:
    """A fork copies one thread: locks that others hold would stay locked."""
    threading = sys.modules.get("threading")
    return hasattr(os, "fork") and (threading is None or threading.active_count() == 1)


def _start(part: Sequence[int], do: Callable[[Sequence[int]], Pairs]) -> tuple[int, int]:
    """A child's PID and the descriptor on which it reports; PID 0 where none could be made."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
    except OSError:  # no process or memory left for that
        os.close(writer)
        return 0, reader
    if pid:
        os.close(writer)
        return pid, reader
    try:  # the child: no exception, buffer or exit handler of the parent's may get out of here
        text = b"".join(_PAIR.pack(*pair) for pair in do(part)) + _COMPLETE
        while text:
            text = text[os.write(writer, text) :]
    finally:
        os._exit(0)


def _collect(pid: int, reader: int) -> list[tuple[int, int]] | None:
    """What the child found; None where it did not finish."""
    text = b""
    try:
        while block := os.read(reader, 1 << 16):
            text += block
    finally:
        os.close(reader)
        if pid:
            with suppress(ChildProcessError):  # somebody set SIGCHLD to be ignored
                os.waitpid(pid, 0)
    if not text.endswith(_COMPLETE):
        return None
    return list(_PAIR.iter_unpack(text[: -len(_COMPLETE)]))
