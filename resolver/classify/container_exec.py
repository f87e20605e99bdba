"""A process that was exec'd into a container: it ends by itself, and the container lives.

Membership is not ownership: what runs in a container's cgroup is the container's own only where it
is the main process, or below it. `docker exec` starts its process beside it (Engine API: the
`State.Pid` of an inspection is the main one).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.host.processes import runs_here
from resolver.model import Classification, Kind
from resolver.programs import works_for_engine

if TYPE_CHECKING:
    from resolver.model import Holder, Snapshot
    from resolver.protocols import CommandRunner


def classify(holder: Holder, snapshot: Snapshot, _run: CommandRunner) -> Classification | None:
    """A member of a container that its main process has not started."""
    container, master = holder.container, holder.master
    if container is None or master is None or not container.main_pid:
        return None
    if container.foreign and not container.by_command:
        return None
    if any(map(works_for_engine, holder.processes)):
        return None
    own = (*master.line, *(each.identity for each in holder.processes))
    if container.main_pid in {each.pid for each in own} or not runs_here(container):
        return None
    above = reversed(snapshot.above(master))
    inside = [str(e) for e in above if any(container.id in path for path in e.cgroups)]
    return Classification(
        holder,
        Kind.LOCAL,
        chain=(f"container {container.name}", *inside, str(master)),
        evidence=(
            f"{container.name}'s main process {container.main_pid} is not above it, and lives on",
        ),
        reason=f"process {master}, exec'd into container {container.name}",
    )
