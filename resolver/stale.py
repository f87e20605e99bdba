"""Servers that were left behind: their checkout was deleted, or their session is over.

Never what a manager, a unit or a container keeps, and never another user's. Read-only.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil
from msgspec.structs import replace

from resolver.host import jobs
from resolver.host.descriptors import open_files
from resolver.model import Kind, Pid, Respawn
from resolver.unit_facts import service_in

if TYPE_CHECKING:
    from resolver.model import Classification, PortReport, Process, Report

_STDERR = 2
_DELETED = " (deleted)"
_USER_MANAGER = "user@"


def left_behind(report: Report) -> Report:
    """The report with only those ports that nobody holds but who was left behind, and why."""
    found = ((port, _why(port)) for port in report.ports)
    ports = (replace(port, notes=(why, *port.notes)) for port, why in found if why)
    return replace(report, ports=tuple(ports))


def _why(port: PortReport) -> str:
    """Why all of its holders count as left behind; empty where one of them does not."""
    reasons = [_reason(each.classification) for each in port.holders]
    return "; ".join(dict.fromkeys(reasons)) if reasons and all(reasons) else ""


def _reason(found: Classification) -> str:
    master = found.holder.master
    if master is None or found.kind is not Kind.LOCAL or found.respawn is not Respawn.NO:
        return ""
    if master.uid != os.geteuid() or _is_of_unit(master):
        return ""
    if found.ownership.gone:
        return f"left behind: {found.ownership.place} was deleted"
    if found.ownership.place and (leader := _ended_session(master)):
        return f"left behind: its session (process {leader}) has ended"
    return ""


def _is_of_unit(process: Process) -> bool:
    """Whether its cgroup is a unit's; those below a user's manager are that user's sessions."""
    found = service_in(process.cgroups)
    return found is not None and not found[0].startswith(_USER_MANAGER)


def _ended_session(process: Process) -> Pid | None:
    """The leader of its session, where that has ended together with the session's terminal.

    A daemon has no terminal: it may well have left its leader on purpose.
    """
    try:
        leader = Pid(os.getsid(process.pid))
    except OSError:
        return None
    lives = psutil.pid_exists(leader) and not jobs.has_ended(leader)
    if leader in {0, process.pid} or lives:
        return None
    return leader if any(map(_is_lost_terminal, open_files(process.pid))) else None


def _is_lost_terminal(file: tuple[int, str]) -> bool:
    """Whether one of the three standard streams is a terminal that is gone (pts(4))."""
    number, target = file
    return number <= _STDERR and target.startswith("/dev/pts/") and target.endswith(_DELETED)
