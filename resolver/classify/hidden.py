"""A socket without a visible owner: another user's, another PID namespace's, or the kernel's."""

from __future__ import annotations

import pwd
from typing import TYPE_CHECKING

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
    user = _user(holder.uid)
    facts = [f"the socket belongs to user {user}"] if user else []
    if holder.cgroup:
        facts.append(f"its cgroup is {holder.cgroup}")
    silent = next((engine for engine in snapshot.engines if engine.silent), None)
    return Classification(
        holder,
        Kind.UNKNOWN if silent else Kind.HIDDEN,
        respawn=Respawn.UNKNOWN,
        confidence=Confidence.SUSPECTED,
        chain=(f"a process of user {user}",) if user else (),
        evidence=tuple(facts),
        reason=f"held by {user or 'somebody'} ({holder.hidden}{_doubt(snapshot)})"
        + (f", and {silent.error}" if silent else ""),
    )


def _doubt(snapshot: Snapshot) -> str:
    """Whether an engine that this user may not ask could explain it."""
    return "; it may be a container" if any(e.forbidden for e in snapshot.engines) else ""


def _user(uid: int | None) -> str | None:
    if uid is None:
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"
