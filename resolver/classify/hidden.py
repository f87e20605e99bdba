"""A socket without a visible owner: another user's, another PID namespace's, or the kernel's.

Or one that only its workers show: their master is another user's, and starts them again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.host import trust
from resolver.model import Classification, Confidence, Kind, Respawn

if TYPE_CHECKING:
    from resolver.model import Holder, Snapshot
    from resolver.protocols import CommandRunner


def classify(holder: Holder, snapshot: Snapshot, _run: CommandRunner) -> Classification | None:
    """A holder without a visible owner, or without its master."""
    if holder.container is not None:
        return None
    if holder.hidden is None:
        return _workers(holder, snapshot)
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


def _workers(holder: Holder, snapshot: Snapshot) -> Classification | None:
    """Workers whose master made the socket as another user, and does not show what it has open.

    Prefork servers are started by root, listen, and serve as somebody else (nginx, Apache,
    php-fpm); whoever that is may signal the workers alone.
    """
    worker = holder.master
    master = snapshot.process(worker.parent) if worker else None
    if worker is None or master is None or master.pid <= 1 or master.name != worker.name:
        return None
    if master.signalable or holder.uid is None or master.uid != holder.uid:
        return None
    user = master.user or "?"
    return Classification(
        holder,
        Kind.HIDDEN,
        respawn=Respawn.YES,
        chain=(f"{master} of user {user}", *map(str, holder.processes)),
        evidence=(f"the socket was made by user {user}, and {worker} descends from {master}",),
        reason=f"workers of {master}, which belongs to {user} and starts them again",
    )
