"""The container that this command runs in: it ends with the process that it was started to run.

What `docker exec` starts is no descendant of the main process, which is then no ancestor of ours.
Nor need that one hold the port itself: an init, a shell's script or npm ends with what it runs.
"""

from __future__ import annotations

import os
from itertools import pairwise
from typing import TYPE_CHECKING

from resolver.host.files import text_of
from resolver.host.identity import identified
from resolver.host.processes import children, pids
from resolver.model import Collateral, CollateralKind, Command, Degree
from resolver.programs import SHIMS, WRAPPERS, is_interactive, is_shell, is_wrapper, known_as

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.collateral.family import Family
    from resolver.model import Pid, Process, ProcessIdentity, Snapshot

# They end with the first process that they have started, and adopt others (tini's README; Docker's
# `run --init`; podman-run(1), --init; dumb-init's README)
_INITS = frozenset({"tini", "tini-static", "docker-init", "podman-init", "catatonit", "dumb-init"})
_WRAPPERS = WRAPPERS | {"su", "sudo", "runuser"}


def lost(family: Family, runner: Process | None, snapshot: Snapshot) -> Iterator[Collateral]:
    """This container, and this command with it; a `runner` may be ended in the holder's place."""
    ended = (*family.members, *([runner] if runner else []))
    lines = ([each, *snapshot.above(each)] for each in ended)
    if not any(_is_what_it_runs(line, snapshot) for line in lines):
        return
    found = snapshot.own_container
    stop = (Command(("docker", "stop", found[:12]), "from outside of it"),) if found else ()
    yield Collateral(
        CollateralKind.CALLER,
        Degree.REFUSED,
        "the container that this command runs in, and this command",
        f"{family.members[0]} is what the container was started to run",
        stop,
    )


def _is_what_it_runs(line: list[Process], snapshot: Snapshot) -> bool:
    """Whether the first of a line ends with the main process of our container, or ends that."""
    own = snapshot.process(snapshot.own[0]) if snapshot.own else None
    inside = [each for each in line if own is not None and each.cgroups == own.cgroups]
    if not inside or not _is_main(inside[-1], snapshot):
        return False
    return all(_ends_with(above, each, snapshot) for each, above in pairwise(inside))


def _is_main(top: Process, snapshot: Snapshot) -> bool:
    """Whether a process is the main one of the container that we run in.

    It is number 1 in a PID namespace of its own; else (`--pid=host`) the first in its cgroup that a
    shim has started: `docker exec` has one start others there.
    """
    above = snapshot.process(top.parent)
    if above is None or not (snapshot.contained and known_as(above, SHIMS)):
        return top.pid == 1
    return top.identity == _first_beside_us()


def _first_beside_us() -> ProcessIdentity | None:
    """The process in our own cgroup that started first."""
    ours = text_of("/proc/self/cgroup")
    return _first(pid for pid in pids() if text_of(f"/proc/{pid}/cgroup") == ours)


def _first(found: Iterable[Pid]) -> ProcessIdentity | None:
    """The one that started first."""
    living = identified(found)
    return min(living, key=lambda each: (each.start_time, each.pid), default=None)


def _ends_with(above: Process, child: Process, snapshot: Snapshot) -> bool:
    """Whether a process ends when that child of its does; one that waits for us, too, does not."""
    if known_as(above, _INITS):
        return child.identity == _first(children(above.pid))
    if above.identity in snapshot.own:
        return False
    if is_shell(above):
        return not is_interactive(above) and _session(child) == _session(above)
    return is_wrapper(above, _WRAPPERS)


def _session(process: Process) -> int:
    """The session that it is in: another one than its parent's, where it was adopted; else 0."""
    try:
        return os.getsid(process.pid)
    except OSError:
        return 0
