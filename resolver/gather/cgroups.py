"""cgroup v2 ids → paths and members. The kernel names every socket's cgroup (sock_diag(7)).

The id is the inode number of the cgroup's directory (cgroups(7)), so a walk over the directories
finds it: some hundreds on a busy machine, and only for sockets whose owner is hidden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.host.files import folders_in, read, text_of
from resolver.model import Pid

if TYPE_CHECKING:
    from collections.abc import Collection

_ROOT_ID = 1  # cgroup1 machines, and sockets of the kernel's own


def paths_of(ids: Collection[int]) -> dict[int, str]:
    """The path of each cgroup id, from the root of the hierarchy; what is not found is missing."""
    wanted = {number for number in ids if number > _ROOT_ID}
    mount = _mount_point() if wanted else None
    found: dict[int, str] = {}
    folders = [mount] if mount else []
    while folders and wanted - found.keys():
        folder = folders.pop()
        for name, number in folders_in(folder):
            path = f"{folder}/{name}"
            folders.append(path)
            if number in wanted:
                found[number] = path.removeprefix(mount or "")
    return found


def members_of(ids: Collection[int]) -> tuple[Pid, ...] | None:
    """The processes in each of the cgroups and below, sorted; None where that cannot be told.

    Membership may have changed since a socket was made: whoever moved away is not among them.
    """
    wanted = set(ids)
    paths = paths_of(wanted)
    mount = _mount_point()
    if mount is None or set(paths) != wanted or not wanted:
        return None
    found: set[Pid] = set()
    folders = [f"{mount}{path}" for path in paths.values()]
    while folders:
        folder = folders.pop()
        # removed meanwhile, a threaded one, which names no processes, or mounted outside of /sys
        try:
            text = read(f"{folder}/cgroup.procs").decode("ascii")
        except (OSError, ValueError):
            return None
        found.update(Pid(int(line)) for line in text.split() if line != "0")
        folders += [f"{folder}/{name}" for name, _ in folders_in(folder)]
    return tuple(sorted(found))


def _mount_point() -> str | None:
    """Where cgroup v2 is mounted (proc_pid_mountinfo(5)): `… - cgroup2 …` after five fields."""
    for line in text_of("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return before.split()[4]
    return None
