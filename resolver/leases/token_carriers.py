"""A lease whose owner has put itself into the background: it lives on in who carries its token.

`run` gives the program that it becomes the tokens of its leases, in a variable and as the name of a
descriptor, and whatever that starts inherits them: redis, nginx and gunicorn leave a child behind
and end. Some write their title over their environment (redis, nginx), others close descriptors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from resolver.gather import owners, sockets
from resolver.host.descriptors import open_files
from resolver.model import Pid, SocketState
from resolver.settings import LEASES_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.leases.model import Lease
    from resolver.leases.owner import Here

_NAME = "ultra-ports-lease-"
_SERVING = {SocketState.LISTENING, SocketState.UNCONNECTED}


def variable(leases: Iterable[Lease]) -> dict[str, str]:
    """What the program is given beside its ports."""
    return {LEASES_VARIABLE: ",".join(str(lease.token) for lease in leases)}


def descriptor_name(lease: Lease) -> str:
    """What a file in memory is called (memfd_create(2)) that stands for the lease."""
    return f"{_NAME}{lease.token}"


def carries(pid: int, lease: Lease) -> bool:
    """Whether the process was given the lease's token; False where that is hidden."""
    link = f"/memfd:{descriptor_name(lease)} (deleted)"
    if str(lease.token) in _variable(pid).split(","):
        return True
    return any(target == link for _, target in open_files(Pid(pid)))


def is_carried_on(lease: Lease, where: Here) -> bool:
    """Whether who serves its port carries the lease's token; False where that cannot be told."""
    owner = lease.owner
    if owner is None or (owner.boot, owner.pid_namespace) != (where.boot, where.pid_namespace):
        return False
    found = [each for each in sockets.list_sockets([lease.request]) if each.state in _SERVING]
    serving = owners.owners_of(each.inode for each in found).values()
    pids = {each.pid for several in serving for each in several}
    return any(carries(pid, lease) for pid in pids)


def _variable(pid: int) -> str:
    try:
        return psutil.Process(pid).environ().get(LEASES_VARIABLE, "")
    except (psutil.Error, OSError):
        return ""
