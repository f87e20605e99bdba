"""Facts about processes: identity, ancestry, command line, cgroups, environment."""

from __future__ import annotations

import os
import sys

from resolver.errors import StateChangedError
from resolver.gather import procfs
from resolver.host.files import text_of
from resolver.host.identity import FOREIGN_PROC, identify, proc_is_ours
from resolver.model import Pid, Process, ProcessIdentity
from resolver.settings import GATHERER_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_CAP_SYS_PTRACE = 19


def blind_spot() -> str:
    """Why a socket may be seen without its owner: what this process may not look into.

    Reading another's descriptors takes CAP_SYS_PTRACE (proc_pid_fd(5)), which root in a container
    mostly lacks.
    """
    if not proc_is_ours():
        return f"its owner is hidden: {FOREIGN_PROC} (unshare --mount-proc gives one of its own)"
    if os.geteuid() != 0:
        return "its owner is hidden from this user"
    if not _has_capability(_CAP_SYS_PTRACE):
        return "its owner is hidden for want of CAP_SYS_PTRACE (docker: --cap-add=SYS_PTRACE)"
    return "its owner is in another PID namespace: look from the host (docker: --pid=host)"


def own_line() -> tuple[ProcessIdentity, ...]:
    """This process and its ancestors, up to PID 1."""
    own = identify(Pid(os.getpid()))
    return (own, *ancestors_of(own))


def ancestors_of(identity: ProcessIdentity) -> tuple[ProcessIdentity, ...]:
    """From the parent up to PID 1; shorter where a parent is hidden or has just gone."""
    return tuple(_line(identity, {}))


def describe(identities: Iterable[ProcessIdentity]) -> tuple[Process, ...]:
    """The facts about each process that still exists, and about all their ancestors; sorted."""
    parents: dict[Pid, ProcessIdentity | None] = {}
    lines: dict[ProcessIdentity, tuple[ProcessIdentity, ...]] = {}
    for identity in identities:
        line = tuple(_line(identity, parents))
        lines[identity] = line
        for number, ancestor in enumerate(line):
            lines.setdefault(ancestor, line[number + 1 :])
    describe_one = _way()
    found = (describe_one(identity, lines[identity]) for identity in sorted(lines))
    return tuple(process for process in found if process is not None)


def _line(
    identity: ProcessIdentity, parents: dict[Pid, ProcessIdentity | None]
) -> Iterator[ProcessIdentity]:
    """The ancestors; `parents` remembers who was found above whom."""
    seen = {identity}
    above = _parent(identity.pid, parents)
    while above is not None and above not in seen:  # a PID reused in mid-walk could make a loop
        seen.add(above)
        yield above
        above = _parent(above.pid, parents)


def _parent(pid: Pid, parents: dict[Pid, ProcessIdentity | None]) -> ProcessIdentity | None:
    if pid not in parents:
        above = _parent_pid(pid)
        try:
            parents[pid] = identify(above) if above > 0 else None
        except StateChangedError:
            parents[pid] = None
    return parents[pid]


def _parent_pid(pid: Pid) -> Pid:
    """The parent's PID, 0 where there is none or it cannot be read."""
    if sys.platform != "linux":
        from resolver.gather import portable  # noqa: PLC0415 - Linux has /proc

        return portable.parent(pid)
    found = procfs.stat(pid)
    return found.parent if found else Pid(0)


def _way() -> Callable[[ProcessIdentity, tuple[ProcessIdentity, ...]], Process | None]:
    """How one process is described: from /proc where there is one, else through psutil."""
    if sys.platform == "linux" and os.environ.get(GATHERER_VARIABLE) != "psutil":
        return procfs.describe
    from resolver.gather import portable  # noqa: PLC0415 - one of two ways

    return portable.describe


def _has_capability(number: int) -> bool:
    """Whether this process has a capability (capabilities(7)); True where there are none."""
    status = text_of("/proc/self/status")
    effective = next((line for line in status.splitlines() if line.startswith("CapEff:")), None)
    return effective is None or bool(int(effective.split()[1], 16) >> number & 1)
