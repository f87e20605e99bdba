"""A socket without a visible owner: another user's, another PID namespace's, or the kernel's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.host import trust
from resolver.model import Classification, Confidence, Kind, Respawn

if TYPE_CHECKING:
    from resolver.model import Holder, Snapshot
    from resolver.protocols import CommandRunner


def classify(holder: Holder, snapshot: Snapshot, _run: CommandRunner) -> Classification | None:
    """A holder without a visible owner."""
    if holder.hidden is None or holder.container is not None:
        return None
    if holder.kernel:
        return Classification(
            holder,
            Kind.PROTECTED,
            chain=("the kernel",),
            evidence=("the socket has no inode, so no process has it open",),
            reason=holder.hidden,
        )
    user = None if holder.uid is None else trust.user_name(holder.uid)
    facts = [f"the socket belongs to user {user}"] if user else []
    if holder.cgroup:
        facts.append(f"its cgroup is {holder.cgroup}")
    silent = snapshot.silent_engine
    doubt = "; it may be a container" if any(each.forbidden for each in snapshot.engines) else ""
    return Classification(
        holder,
        Kind.UNKNOWN if silent else Kind.HIDDEN,
        respawn=Respawn.UNKNOWN,
        confidence=Confidence.SUSPECTED,
        chain=(f"a process of user {user}",) if user else (),
        evidence=tuple(facts),
        reason=f"held by {user or 'somebody'} ({holder.hidden}{doubt})"
        + (f", and {silent.error}" if silent else ""),
    )
