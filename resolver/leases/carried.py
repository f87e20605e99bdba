"""A lease whose owner has put itself into the background: it lives on in who carries its token.

`run` gives the program that it becomes the tokens of its leases, in a variable and as the name of a
descriptor, and whatever that starts inherits them: redis, nginx and gunicorn leave a child behind
and end. Some write their title over their environment (redis, nginx), others close descriptors.
"""

from __future__ import annotations

import fcntl
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from resolver.gather import owners, sockets
from resolver.model import SocketState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.leases.model import Lease
    from resolver.leases.owner import Here

VARIABLE = "ULTRA_PORTS_LEASES"
_NAME = "ultra-ports-lease-"  # of a file in memory (memfd_create(2)), which /proc/PID/fd shows
_LINK, _END = f"/memfd:{_NAME}", " (deleted)"
_BEYOND_SCRIPTS = 10  # `exec 3>file` would close it
_SERVING = {SocketState.LISTENING, SocketState.UNCONNECTED}


def variable(leases: Iterable[Lease]) -> dict[str, str]:
    """What the program is given beside its ports."""
    return {VARIABLE: ",".join(str(lease.token) for lease in leases)}


@contextmanager
def descriptors(leases: Iterable[Lease]) -> Iterator[None]:
    """Meanwhile, a program that this process becomes inherits a descriptor for each lease."""
    copies = [_descriptor(lease) for lease in leases] if sys.platform == "linux" else []
    try:
        yield
    finally:
        for each in copies:
            os.close(each)


def _descriptor(lease: Lease) -> int:
    made = os.memfd_create(f"{_NAME}{lease.token}")
    try:
        return fcntl.fcntl(made, fcntl.F_DUPFD, _BEYOND_SCRIPTS)
    finally:
        os.close(made)


def carries(pid: int, lease: Lease) -> bool:
    """Whether the process was given the lease's token; False where that is hidden."""
    token = str(lease.token)
    return token in _variable(pid).split(",") or f"{_LINK}{token}{_END}" in _open_files(pid)


def is_carried_on(lease: Lease, where: Here) -> bool:
    """Whether who serves its port carries the lease's token; False where that cannot be told."""
    owner = lease.owner
    if owner is None or (owner.boot, owner.pid_namespace) != (where.boot, where.pid_namespace):
        return False
    found = [each for each in sockets.list_sockets([lease.request]) if each.state in _SERVING]
    owning = owners.owners_of(each.inode for each in found)
    return any(
        carries(pid, lease) for pid in {each.pid for pair in owning.values() for each in pair}
    )


def _variable(pid: int) -> str:
    try:
        return psutil.Process(pid).environ().get(VARIABLE, "")
    except (psutil.Error, OSError):
        return ""


def _open_files(pid: int) -> Iterator[str]:
    try:
        for each in Path(f"/proc/{pid}/fd").iterdir():
            yield str(each.readlink())
    except OSError:  # it is another user's, or has ended
        return
