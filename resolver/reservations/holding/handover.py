"""Sockets for a program that takes them ready-made, as from systemd's socket units.

The protocol of sd_listen_fds(3): descriptors from 3 up, LISTEN_FDS counts and LISTEN_FDNAMES names
them, and LISTEN_PID is the process that they are meant for, so that its children do not take them
for theirs. What is in here runs between fork(2) and execve(2), but for `ready`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

FIRST = 3  # SD_LISTEN_FDS_START


def ready(held: socket.socket) -> socket.socket:
    """A held socket that now listens, where it is of a kind that does."""
    if held.type == socket.SOCK_STREAM:
        held.listen(socket.SOMAXCONN)
    return held


def listen_variables(names: Collection[str]) -> dict[str, str]:
    """What tells this very process of the sockets that it was given."""
    return {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": str(len(names)),
        "LISTEN_FDNAMES": ":".join(names),
    }


def arrange(sockets: Collection[socket.socket], kept: int) -> int:
    """Puts the sockets where the program looks for them, and closes all other descriptors.

    The standard streams stay, and so does `kept`, until execve(2): returns what it is now.
    """
    end = FIRST + len(sockets)
    aside = [fcntl.fcntl(each.fileno(), fcntl.F_DUPFD, end + 1) for each in sockets]
    kept = fcntl.fcntl(kept, fcntl.F_DUPFD_CLOEXEC, end + 1)
    for place, descriptor in enumerate(aside, FIRST):
        os.dup2(descriptor, place)
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - a number, not a path
        if int(name) >= end and int(name) != kept:
            _close(int(name))
    return kept


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # of the one that listed them
        os.close(descriptor)
