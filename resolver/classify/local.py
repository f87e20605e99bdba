"""A process of its own, with nothing known that would start it again. Takes what nobody claimed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.model import Classification, Kind, SocketState

if TYPE_CHECKING:
    from resolver.model import Holder, Snapshot
    from resolver.protocols import CommandRunner


def classify(holder: Holder, snapshot: Snapshot, _run: CommandRunner) -> Classification:
    """An ordinary process or process family."""
    master = holder.master
    if master is None:
        return Classification(holder, Kind.UNKNOWN, reason="its owner ended during the scan")
    above = (snapshot.process(identity) for identity in reversed(master.ancestors))
    chain = [str(process) for process in above if process is not None and process.pid > 1]
    chain.append(str(master))
    workers = len(holder.processes) - 1
    if workers:
        chain.append(f"{workers} worker{'s' if workers > 1 else ''}")
    return Classification(
        holder,
        Kind.LOCAL,
        chain=tuple(chain),
        evidence=_evidence(holder),
        reason=f"process {master}",
    )


def _evidence(holder: Holder) -> tuple[str, ...]:
    """Facts worth a line: many owners, a stopped process, an orphan."""
    found = []
    pids = [str(process.pid) for process in holder.processes]
    if len(pids) > 1:
        found.append(f"the socket is open in processes {', '.join(pids)}")
    if holder.state is SocketState.BOUND:
        found.append(
            "bound, and not listening: it keeps the port reserved, connections are refused"
        )
    if any(process.stopped for process in holder.processes):
        found.append("the process is stopped (SIGSTOP)")
    if holder.master and holder.master.parent and holder.master.parent.pid == 1:
        found.append("its parent is process 1: whoever started it has ended, or let it go")
    return tuple(found)
