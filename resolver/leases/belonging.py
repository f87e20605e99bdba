"""Whether who holds a port is whom the port is reserved for. Read-only."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.leases.model import Lease
from resolver.leases.token_carriers import carries
from resolver.model import ProcessIdentity

if TYPE_CHECKING:
    from resolver.leases.model import Claim, Owner
    from resolver.leases.owner import Here
    from resolver.model import Container, Holder

PROJECT_LABEL = "com.docker.compose.project"
DIRECTORY_LABEL = "com.docker.compose.project.working_dir"


class Belonging(StrEnum):
    """What a holder is to a reservation."""

    OWN = "own"
    OTHER = "other"
    UNKNOWN = "unknown"


def belonging(holder: Holder, of: Lease | Claim, where: Here) -> Belonging:
    """Whether the holder is the reservation's.

    The owner, what descends from it, and what carries the lease's token, is. Where the reservation
    has no owner, a working directory inside the project's root, or the compose project, says that
    the holder is; nothing says that it is not. The owner's compose project may well hold the port
    as a container.
    """
    if holder.container is not None:
        return _of_project(holder.container, of)
    if of.owner is not None:
        carried = isinstance(of, Lease) and any(
            carries(process.pid, of) for process in holder.processes
        )
        return Belonging.OWN if carried else _of_owner(holder, of.owner, where)
    return Belonging.OWN if _works_in(holder, of.place) else Belonging.UNKNOWN


def _of_owner(holder: Holder, owner: Owner, where: Here) -> Belonging:
    if (owner.boot, owner.pid_namespace) != (where.boot, where.pid_namespace):
        return Belonging.UNKNOWN
    if not holder.processes:
        return Belonging.UNKNOWN
    identity = ProcessIdentity(owner.pid, owner.start_time)
    lines = ((process.identity, *process.ancestors) for process in holder.processes)
    return Belonging.OWN if any(identity in line for line in lines) else Belonging.OTHER


def _of_project(container: Container, of: Lease | Claim) -> Belonging:
    project, folder = container.label(PROJECT_LABEL), container.label(DIRECTORY_LABEL)
    if folder and of.place:
        return Belonging.OWN if _inside(folder, of.place) else Belonging.OTHER
    return Belonging.OWN if project == of.project else Belonging.UNKNOWN


def _works_in(holder: Holder, place: str) -> bool:
    return any(process.cwd and _inside(process.cwd, place) for process in holder.processes)


def _inside(folder: str, place: str) -> bool:
    return bool(place) and Path(folder).is_relative_to(place)
