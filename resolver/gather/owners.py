"""Socket inode → every process that has it open, from /proc (proc_pid_fd(5)).

A listening socket belongs to every process that inherited it: a prefork server with two workers has
three owners. psutil names one of them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from resolver.errors import StateChangedError
from resolver.host.descriptors import PREFIX, open_sockets
from resolver.host.identity import identify
from resolver.model import Pid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.model import ProcessIdentity


def owners_of(inodes: Iterable[int]) -> dict[int, tuple[ProcessIdentity, ...]]:
    """The owners of each inode, sorted by PID, in one pass over all processes.

    An inode that is missing has an owner that this user may not look into, or none any more. On a
    platform without /proc the answer is empty.
    """
    wanted = {inode for inode in inodes if inode > 0}
    found: dict[int, set[ProcessIdentity]] = {}
    for pid in _pids() if wanted else ():
        for inode in open_sockets(pid, wanted) or ():
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
    return int(link[len(PREFIX) : -1]) if link.startswith(PREFIX) else None


def _pids() -> Iterator[Pid]:
    try:
        names = os.listdir("/proc")
    except OSError:
        return
    yield from (Pid(int(name)) for name in names if name.isdigit())
