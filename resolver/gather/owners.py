"""Socket inode → every process that has it open, from /proc (proc_pid_fd(5)).

A listening socket belongs to every process that inherited it: a prefork server with two workers has
three owners. psutil names one of them.
"""

from __future__ import annotations

import os

from resolver.errors import StateChangedError
from resolver.host.descriptors import PREFIX, open_sockets
from resolver.host.identity import identify
from resolver.host.processes import pids as every_pid
from resolver.model import Pid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from resolver.model import ProcessIdentity


def owners_of(
    inodes: Iterable[int], pids: Collection[Pid] | None = None
) -> dict[int, tuple[ProcessIdentity, ...]]:
    """The owners of each inode, sorted by PID, in one pass over all processes.

    An inode that is missing has an owner that this user may not look into, or none any more. On a
    platform without /proc the answer is empty.

    Args:
        inodes: of sockets.
        pids: the processes to look into; None means every process.
    """
    wanted = {inode for inode in inodes if inode > 0}
    if not wanted:
        return {}
    found: dict[int, set[ProcessIdentity]] = {}
    for pid, inode in _openings(every_pid() if pids is None else list(pids), wanted):
        try:
            found.setdefault(inode, set()).add(identify(pid))
        except StateChangedError:
            continue
    return {inode: tuple(sorted(owners)) for inode, owners in found.items() if owners}


def _openings(pids: Sequence[Pid], wanted: Collection[int]) -> Iterable[tuple[Pid, int]]:
    """Which of the processes has which of the inodes open."""
    if len(pids) >= _CROWD:
        from resolver.host.shares import shared  # noqa: PLC0415 - only on a crowded machine

        return [(Pid(pid), inode) for pid, inode in shared(pids, lambda part: _scan(part, wanted))]
    return _scan(pids, wanted)


_CROWD = 300  # processes: for fewer, starting helpers takes longer than they save


def _scan(pids: Iterable[int], wanted: Collection[int]) -> Iterator[tuple[Pid, int]]:
    for pid in map(Pid, pids):
        for inode in open_sockets(pid, wanted) or ():
            yield pid, inode


def socket_facts(pid: int, descriptor: int) -> tuple[int, int] | None:
    """The inode of one socket of a process, and the user who made it.

    None where it has gone or may not be read.
    """
    path = f"/proc/{pid}/fd/{descriptor}"
    try:
        if not os.readlink(path).startswith(PREFIX):
            return None
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_uid
