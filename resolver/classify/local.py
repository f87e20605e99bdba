"""A process of its own, with nothing known that would start it again. Takes what nobody claimed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.ancestry import others_below
from resolver.model import Classification, Kind, SocketState
from resolver.phrases import counted
from resolver.programs import STARTERS, is_interactive, is_shell, known_as, retitled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.model import Holder, Process, Snapshot
    from resolver.protocols import CommandRunner


def classify(holder: Holder, snapshot: Snapshot, _run: CommandRunner) -> Classification:
    """An ordinary process or process family."""
    master = holder.master
    if master is None:
        return Classification(holder, Kind.UNKNOWN, reason="its owner ended during the scan")
    above = [process for process in snapshot.above(master) if process.pid > 1]
    chain = [*map(str, reversed(above)), str(master)]
    workers = len(holder.processes) - 1
    if workers:
        chain.append(counted(workers, "worker"))
    return Classification(
        holder,
        Kind.LOCAL,
        chain=tuple(chain),
        evidence=_evidence(holder),
        reason=f"process {master}",
        restart=f"{_started_from(above)}no service manager will restart it",
        launcher=_launcher(holder, master, snapshot),
    )


def _launcher(holder: Holder, master: Process, snapshot: Snapshot) -> Process | None:
    """The parent, where it is the same program and runs nothing else.

    The command line of a child says less than its, or more: a title, or what the two agreed upon
    (haproxy's `-sf`, squid's `--kid`, Next.js).
    """
    parent = snapshot.process(master.parent)
    if parent is None or parent.executable is None or parent.executable != master.executable:
        return None
    if parent.identity in snapshot.own or is_shell(parent) or known_as(parent, STARTERS):
        return None
    says_more = set(parent.command) <= set(master.command)
    if not (says_more or retitled(master)) or others_below(parent, (master,), holder):
        return None
    return parent


def _started_from(above: Sequence[Process]) -> str:
    """The nearest terminal, editor or tool above it, else the nearest shell that is typed into."""
    hosts = (process for process in above if known_as(process, STARTERS))
    found = next(hosts, None) or next(filter(is_interactive, above), None)
    return f"started from {found}; " if found else ""


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
