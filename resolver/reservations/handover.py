"""What of a hold stays with the program that this process becomes (execve(2)).

Either the hold itself: a descriptor that the program knows nothing of, and whatever it starts
inherits, so that the port is kept until the last of them has closed it or ended. Or a listening
socket that the program takes ready-made, by the protocol of sd_listen_fds(3): descriptors from 3
up, LISTEN_FDS counts and LISTEN_FDNAMES names them, and LISTEN_PID is the process that they are
meant for.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sys
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from resolver.leases.token_carriers import descriptor_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from resolver.leases.model import Lease
    from resolver.reservations.hold import Hold

FIRST = 3  # SD_LISTEN_FDS_START
_BEYOND_SCRIPTS = 10  # `exec 3>file` would close the hold; a shell puts its own out of the way


@contextmanager
def inherited(holds: Iterable[Hold], leases: Iterable[Lease] = ()) -> Iterator[None]:
    """Meanwhile, a program that this process becomes inherits the holds, and a mark of each lease.

    The mark is by what the lease knows who carries it on (`leases.token_carriers`).
    """
    with ExitStack() as stack:
        for each in holds:
            stack.callback(os.close, _inheritable(each.socket.fileno()))
        for lease in leases if sys.platform == "linux" else ():
            made = os.memfd_create(descriptor_name(lease))
            try:
                stack.callback(os.close, _inheritable(made))
            finally:
                os.close(made)
        yield


def _inheritable(descriptor: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD, _BEYOND_SCRIPTS)


@contextmanager
def passed(sockets: Collection[socket.socket]) -> Iterator[None]:
    """Meanwhile, the sockets listen, and are where a program looks for those it was passed."""
    end = FIRST + len(sockets)
    aside = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, end) for each in sockets]
    ours = {}
    for place in range(FIRST, end):
        with suppress(OSError):  # nothing is there
            ours[place] = fcntl.fcntl(place, fcntl.F_DUPFD_CLOEXEC, end)
    for each in sockets:
        if each.type == socket.SOCK_STREAM:
            each.listen(socket.SOMAXCONN)
    for place, descriptor in enumerate(aside, FIRST):
        os.dup2(descriptor, place)
    try:
        yield
    finally:
        for place, descriptor in ours.items():
            os.dup2(descriptor, place, inheritable=False)


def listen_variables(names: Collection[str]) -> dict[str, str]:
    """What tells this very process, whatever it becomes, of the sockets that it was passed."""
    return {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": str(len(names)),
        "LISTEN_FDNAMES": ":".join(names),
    }
