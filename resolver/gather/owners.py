"""Socket inode → every process that has it open, from /proc (proc_pid_fd(5)).

A listening socket belongs to every process that inherited it: a prefork server with two workers has
three owners. psutil names one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from resolver.errors import StateChangedError
from resolver.gather.cgroups import members_of, paths_of
from resolver.host.descriptors import open_sockets
from resolver.host.identity import identify
from resolver.host.processes import pids as every_pid
from resolver.host.shares import shared
from resolver.model import Pid, Scan

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from resolver.model import ProcessIdentity, Socket

_CROWD = 300  # processes: for fewer, starting helpers takes longer than they save
_ROOT_CGROUP = 1  # everybody's on cgroup v1 machines


def with_owners(sockets: Sequence[Socket], *, complete: bool) -> tuple[tuple[Socket, ...], Scan]:
    """The sockets with their owners, and where these were looked for.

    Unless it has to be complete, the cgroup that each socket was made in is enough, if an owner of
    each is in there: what that costs does not grow with the machine. Somebody who was given the
    socket and is elsewhere is not seen then.
    """
    inodes = {entry.inode for entry in sockets if entry.inode > 0}
    if not complete and (near := _in_cgroups(sockets)):
        found = owners_of(inodes, near)
        if found.keys() == inodes:
            return _joined(sockets, found), Scan.CGROUP
    return _joined(sockets, owners_of(inodes)), Scan.COMPLETE


def _in_cgroups(sockets: Iterable[Socket]) -> tuple[Pid, ...]:
    """The processes of the cgroups that the sockets were made in; empty where that says nothing."""
    ids = {entry.cgroup_id or 0 for entry in sockets if entry.inode}
    return (members_of(ids) or ()) if ids and min(ids) > _ROOT_CGROUP else ()


def _joined(
    sockets: Sequence[Socket], found: dict[int, tuple[ProcessIdentity, ...]]
) -> tuple[Socket, ...]:
    """The sockets with their owners, and with the cgroup where the owner is hidden."""
    owned = [
        replace(entry, owners=tuple(sorted({*entry.owners, *found.get(entry.inode, ())})))
        for entry in sockets
    ]
    hidden = {each.cgroup_id or 0 for each in owned if each.inode and not each.owners}
    paths = paths_of(hidden)
    return tuple(
        each if each.owners else replace(each, cgroup=paths.get(each.cgroup_id or 0))
        for each in owned
    )


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
        return [(Pid(pid), inode) for pid, inode in shared(pids, lambda part: _scan(part, wanted))]
    return _scan(pids, wanted)


def _scan(pids: Iterable[int], wanted: Collection[int]) -> Iterator[tuple[Pid, int]]:
    for pid in map(Pid, pids):
        for inode in open_sockets(pid, wanted) or ():
            yield pid, inode
