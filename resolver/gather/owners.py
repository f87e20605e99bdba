"""Socket inode → every process that has it open, from /proc (proc_pid_fd(5)).

A listening socket belongs to every process that inherited it: a prefork server with two workers has
three owners. psutil names one of them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from resolver.errors import StateChangedError
from resolver.host.identity import identify
from resolver.model import Pid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.model import ProcessIdentity

_PREFIX = "socket:["


def owners_of(inodes: Iterable[int]) -> dict[int, tuple[ProcessIdentity, ...]]:
    """The owners of each inode, sorted by PID, in one pass over all processes.

    An inode that is missing has an owner that this user may not look into, or none any more. On a
    platform without /proc the answer is empty.
    """
    wanted = {f"{_PREFIX}{inode}]": inode for inode in inodes if inode > 0}
    found: dict[int, set[ProcessIdentity]] = {}
    for pid in _pids() if wanted else ():
        for inode in _open_sockets(pid, wanted):
            try:
                found.setdefault(inode, set()).add(identify(pid))
            except StateChangedError:
                break
    return {inode: tuple(sorted(owners)) for inode, owners in found.items()}


def socket_inode(pid: int, descriptor: int) -> int | None:
    """The inode of one socket of a process; None where it has gone or may not be read."""
    try:
        link = os.readlink(f"/proc/{pid}/fd/{descriptor}")
    except OSError:
        return None
    return int(link[len(_PREFIX) : -1]) if link.startswith(_PREFIX) else None


def _pids() -> Iterator[Pid]:
    try:
        names = os.listdir("/proc")
    except OSError:
        return
    yield from (Pid(int(name)) for name in names if name.isdigit())


def _open_sockets(pid: Pid, wanted: dict[str, int]) -> set[int]:
    folder = f"/proc/{pid}/fd"
    found: set[int] = set()
    try:
        descriptors = os.listdir(folder)
    except OSError:  # gone, or another user's
        return found
    for descriptor in descriptors:
        try:
            link = os.readlink(f"{folder}/{descriptor}")
        except OSError:  # closed since
            continue
        if link in wanted:
            found.add(wanted[link])
    return found
