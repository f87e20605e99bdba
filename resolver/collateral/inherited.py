"""A listener that the holder was left by the program before it, and never serves.

Such a descriptor came through execve(2), so it is not close-on-exec; nobody waits for connections
on it; and none was ever accepted. A server that was started with its socket (systemd, a reloader)
waits on it, and is no such case.
"""

from __future__ import annotations

import os
import platform
import re
import struct
from typing import TYPE_CHECKING

from resolver.host.files import files_in, memory_of, text_of
from resolver.model import Collateral, CollateralKind, Degree, SocketState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from resolver.collateral.family import Descriptor, Family
    from resolver.model import Pid

_CLOSE_ON_EXEC = 0o2000000  # O_CLOEXEC of asm-generic/fcntl.h
_WATCHED = re.compile(r"^tfd:\s*(\d+)", re.MULTILINE)
_POLLFD = struct.Struct("=ihh")  # poll(2)
_MOST_LOOKED_AT = 512  # epoll sets and threads of one process
_STDERR = 2
_MOST_NAMED = 4
_MOST = 4096  # descriptors that a poll or select names
# The numbers of the calls in which a thread waits for connections (syscalls(2), by machine)
_ACCEPT = {"x86_64": {43, 288}, "aarch64": {202, 242}}
_POLL = {"x86_64": {7, 271}, "aarch64": {73}}
_SELECT = {"x86_64": {23, 270}, "aarch64": {72}}


def lost(family: Family) -> Iterator[Collateral]:
    """What the holder serves besides a port that it merely inherited."""
    if family.holder.state is not SocketState.LISTENING or family.holder.kernel:
        return
    mine = [each for each in family.group.descriptors if each.inode in family.holder.inodes]
    own = family.holder.binding.port
    accepted = any(each.binding.port == own for each in family.group.accepted)
    if not mine or accepted or any(each.flags & _CLOSE_ON_EXEC for each in mine):
        return
    served = _served(family)
    waiting = _anybody_waits(mine, family.group.descriptors)
    if waiting or (waiting is None and not _names_the_other(family)):
        return
    written = _written(family)
    text = f"what it writes: {', '.join(written)}" if written else "whatever it is busy with"
    yield Collateral(
        CollateralKind.INHERITED,
        Degree.REFUSED if served or written else Degree.MENTIONED,
        f"what it serves instead: {', '.join(served)}" if served else text,
        f"it inherited {own} from the program before it, and does not accept connections there",
    )


def _written(family: Family) -> list[str]:
    """The files that it makes, such as a copy or an archive: what is appended to is a log."""
    errors = {each.target for each in family.group.descriptors if each.number == _STDERR}
    made = (each for each in family.group.descriptors if _makes(each) and each.target not in errors)
    return sorted({each.target for each in made})[:_MOST_NAMED]


def _makes(each: Descriptor) -> bool:
    """Whether a descriptor writes to a file that is there (open(2)): not to a device, or a pipe."""
    if each.target.startswith(("/dev/", "/proc/", "/sys/")) or not os.path.isfile(each.target):
        return False
    return each.writes and not each.flags & os.O_APPEND


def _served(family: Family) -> list[str]:
    """The other ports and sockets by which it can be reached."""
    found = {f"{each.binding.port}/{each.binding.transport}" for each in family.others}
    return [*sorted(found), *family.group.paths]


def _any(answers: Iterable[bool | None]) -> bool | None:
    """Whether one of them is True; None where none is, and not all of them are known."""
    others: set[bool | None] = set()
    for answer in answers:
        if answer:
            return True
        others.add(answer)
    return None if None in others else False


def _anybody_waits(mine: Sequence[Descriptor], opened: Sequence[Descriptor]) -> bool | None:
    """Whether a thread waits for connections; None where that cannot be told, or costs too much."""
    return _any(
        _waits(
            pid,
            {each.number for each in mine if each.pid == pid},
            [each for each in opened if each.pid == pid],
        )
        for pid in {each.pid for each in mine}
    )


def _waits(pid: Pid, numbers: set[int], opened: Sequence[Descriptor]) -> bool | None:
    """Each epoll set and each thread is looked at once, and not more than some of them."""
    if any(each.target == "anon_inode:[io_uring]" for each in opened):
        return None
    sets = [each for each in opened if each.target == "anon_inode:[eventpoll]"]
    threads = list(files_in(f"/proc/{pid}/task"))
    if len(sets) + len(threads) > _MOST_LOOKED_AT:
        return None
    if any(not numbers.isdisjoint(_watched(each)) for each in sets):
        return True
    return _any(_thread_waits(task, pid, numbers) for task in threads) if threads else None


def _watched(epoll: Descriptor) -> set[int]:
    """The descriptors in an epoll set (proc_pid_fdinfo(5))."""
    text = text_of(f"/proc/{epoll.pid}/fdinfo/{epoll.number}")
    return {int(number) for number in _WATCHED.findall(text)}


def _thread_waits(task: str, pid: Pid, numbers: set[int]) -> bool | None:
    """Whether a thread is in a call that waits for one of these (proc_pid_syscall(5))."""
    words = text_of(f"{task}/syscall").split()
    machine = platform.machine()
    if len(words) < 4 or words[0] == "-1" or machine not in _ACCEPT:  # noqa: PLR2004 - hidden or running
        return None
    call, first, second = int(words[0]), int(words[1], 16), int(words[2], 16)
    if call in _ACCEPT[machine]:
        return first in numbers
    if call in _POLL[machine]:
        return _polled(pid, numbers, first, second)
    if call in _SELECT[machine]:
        return _selected(pid, numbers, first, second)
    return False


def _polled(pid: Pid, numbers: set[int], address: int, count: int) -> bool | None:
    data = memory_of(pid, address, min(count, _MOST) * _POLLFD.size)
    if data is None:
        return None
    return any(number in numbers for number, _, _ in _POLLFD.iter_unpack(data))


def _selected(pid: Pid, numbers: set[int], count: int, address: int) -> bool | None:
    wanted = [number for number in numbers if number < count]
    if address == 0 or not wanted:
        return False
    data = memory_of(pid, address, min(count, _MOST) // 8 + 1)
    if data is None:
        return None
    return any(data[number // 8] >> number % 8 & 1 for number in wanted if number // 8 < len(data))


def _names_the_other(family: Family) -> bool:
    """Whether its command line names another port that it serves, and not this one."""
    words = " ".join(word for process in family.members for word in process.command)
    numbers = set(re.findall(r"\d+", words))
    others = {str(each.binding.port) for each in family.others}
    return bool(numbers & others) and str(family.holder.binding.port) not in numbers
