"""A service of another system on this kernel (systemd-nspawn, LXC): its own systemd keeps it.

Such a system has PID 1 of a PID namespace below ours, and its units have names that may be ours as
well. Its programs are its owner's, so nothing in it is asked: what it would do is suspected.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from resolver.host.files import status_words
from resolver.managed import ManagedService, classification, sudo_for
from resolver.model import Command, Confidence

if TYPE_CHECKING:
    from resolver.model import Classification, Holder, Process, Snapshot
    from resolver.protocols import CommandRunner

_INITS = {"systemd", "init"}


def classify(holder: Holder, snapshot: Snapshot, _run: CommandRunner) -> Classification | None:
    """A holder below the init of another system, which is no container that an engine knows."""
    master, container = holder.master, holder.container
    if master is None or (container is not None and container.engine):
        return None
    init = next(filter(_is_init, snapshot.above(master)), None)
    if init is None:
        return None
    path = next((path for path in master.cgroups if path.endswith(".service")), "")
    unit = path.rpartition("/")[2]
    if (not unit or unit.startswith("-")) and init.name != "systemd":
        return None
    title = f"{unit or 'a service'} of the system {container.name if container else init.pid}"
    enter = ("nsenter", "--target", str(init.pid), "--all", "systemctl")
    inner = _inner_pid(master) or str(master.pid)
    sudo = sudo_for(init) if os.geteuid() else ()
    service = ManagedService(
        kind="systemd",
        name=unit or str(master.pid),
        title=title,
        confidence=Confidence.SUSPECTED,
        keeper=f"{init}, which is PID 1 there",
        stop=((*enter, "stop", unit),) if unit else (),
        start=((*enter, "start", unit),) if unit else (),
        prefix=sudo,
        evidence=(
            f"{init} above it is PID 1 of a PID namespace of its own",
            "its programs are not run from here, so its systemd was not asked",
        ),
        commands=()
        if unit
        else (Command((*sudo, *enter, "status", inner), "which service it is"),),
        reason=f"{title} (systemd-nspawn, LXC or the like)",
    )
    return classification(holder, [master], service)


def _is_init(process: Process) -> bool:
    return process.name in _INITS and process.pid != 1 and _inner_pid(process) == "1"


def _inner_pid(process: Process) -> str:
    """Its number in its own PID namespace, where that is below ours (NSpid, proc_pid_status(5))."""
    numbers = status_words(process.pid, "NSpid")
    return numbers[-1] if len(numbers) > 1 else ""
