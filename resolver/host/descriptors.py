"""Which sockets a process has open (proc_pid_fd(5))."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from resolver.host.files import files_in, link_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from resolver.model import Pid

PREFIX = "socket:["


def open_sockets(pid: Pid, inodes: Collection[int]) -> frozenset[int] | None:
    """Those of `inodes` that the process has open; None where it is hidden or gone.

    The main thread of a process may have ended before the others: then theirs are read.
    """
    wanted = {f"{PREFIX}{inode}]": inode for inode in inodes}
    found = _read(f"/proc/{pid}/fd", wanted)
    if found is not None:
        return found
    others = (_read(f"{thread}/fd", wanted) for thread in files_in(f"/proc/{pid}/task"))
    return next((each for each in others if each is not None), None)


def open_files(pid: Pid) -> Iterator[tuple[int, str]]:
    """Each descriptor of a process in order, and what it leads to; none where hidden or gone."""
    folder = f"/proc/{pid}/fd"
    for number in sorted(int(os.path.basename(each)) for each in files_in(folder)):
        if target := link_of(f"{folder}/{number}"):  # else closed since
            yield number, target


def _read(folder: str, wanted: dict[str, int]) -> frozenset[int] | None:
    """Relative to the opened folder, the kernel walks one step for each link, not four."""
    found = set()
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # gone, or another user's
        return None
    try:
        descriptors = os.listdir(handle)
        if not descriptors:  # a main thread that has ended shows none, whatever the others have
            return None
        for descriptor in descriptors:
            try:
                link = os.readlink(descriptor, dir_fd=handle)
            except OSError:  # closed since
                continue
            if link in wanted:
                found.add(wanted[link])
    except OSError:  # a zombie, or another user's
        return None
    finally:
        os.close(handle)
    return frozenset(found)


def socket_facts(pid: int, descriptor: int) -> tuple[int, int] | None:
    """The inode of one socket of a process, and the user who made it.

    None where it has gone or may not be read.
    """
    path = f"/proc/{pid}/fd/{descriptor}"
    try:
        status = os.stat(path) if link_of(path).startswith(PREFIX) else None
    except OSError:
        return None
    return (status.st_ino, status.st_uid) if status else None
