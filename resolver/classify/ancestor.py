"""The caller itself: this command, one of its ancestors, or the container that it runs in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.model import Classification, Command, Kind

if TYPE_CHECKING:
    from resolver.model import Holder, Snapshot
    from resolver.protocols import CommandRunner


def classify(holder: Holder, snapshot: Snapshot, _run: CommandRunner) -> Classification | None:
    """A holder whose end would be the end of this very command."""
    if holder.container and holder.container.id == snapshot.own_container:
        name = holder.container.name
        return Classification(
            holder,
            Kind.ANCESTOR,
            chain=(f"container {name}", "this command runs in it"),
            evidence=(f"/proc/self/mountinfo names container {holder.container.id[:12]}",),
            reason=f"container {name} is the one that this command runs in",
            commands=(Command(holder.container.command("stop"), "from outside of it"),),
        )
    own = [process for process in holder.processes if process.identity in snapshot.own]
    if not own:
        return None
    first = own[0]
    line = [snapshot.process(identity) for identity in snapshot.own]
    return Classification(
        holder,
        Kind.ANCESTOR,
        chain=tuple(str(each) for each in reversed(line) if each and each.pid > 1),
        evidence=(f"process {first.pid} is an ancestor of this command",),
        reason=f"{first} started this command; ending it would end this command too",
        commands=(Command(("kill", str(first.pid)), "from another terminal"),),
    )
