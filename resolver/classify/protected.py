"""What is never ended, whatever it holds: engines, lone forwarders, sshd and their like."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.model import Classification, Command, Confidence, Kind, Respawn
from resolver.programs import ENGINES, FORWARDERS, SYSTEM, known_as

if TYPE_CHECKING:
    from resolver.model import Holder, Process, Snapshot
    from resolver.protocols import CommandRunner


def classify(holder: Holder, snapshot: Snapshot, _run: CommandRunner) -> Classification | None:
    """A holder that stays. Where an engine did not answer, what it forwards is not known.

    A systemd manager holds sockets for its units, so `systemd.py` is asked about it first.
    """
    for process in holder.processes:
        if known_as(process, FORWARDERS | ENGINES):
            return _engines_own(holder, process, snapshot)
        if process.pid > 1 and process.name != "systemd" and known_as(process, SYSTEM):
            return _system(holder, process)
    return None


def _engines_own(holder: Holder, process: Process, snapshot: Snapshot) -> Classification:
    troubled = (engine for engine in snapshot.engines if not engine.unremarkable)
    error = next((engine.error for engine in troubled if engine.error), None)
    silent = any(engine.silent for engine in snapshot.engines)
    if not snapshot.engines:
        error = "no engine was asked"
    published = f"{holder.binding.port}/{holder.binding.transport}"
    what = "forwards" if known_as(process, FORWARDERS) else "holds"
    reason = f"{process} {what} this port for a container engine, and no container owns up to it"
    if error:
        reason = f"{process} {what} this port for a container engine; which container: {error}"
    return Classification(
        holder,
        Kind.UNKNOWN if silent else Kind.FORWARDER,
        respawn=Respawn.UNKNOWN,
        confidence=Confidence.SUSPECTED,
        chain=(str(process), "a container"),
        evidence=(f"command line: {' '.join(process.command)}",) if process.command else (),
        reason=reason,
        commands=(Command(("docker", "ps", "--filter", f"publish={published}")),),
    )


def _system(holder: Holder, process: Process) -> Classification:
    return Classification(
        holder,
        Kind.PROTECTED,
        respawn=Respawn.UNKNOWN,
        chain=(str(process),),
        reason=f"{process} is part of the system, and is never ended from here",
        commands=(
            Command(("systemctl", "status", str(process.pid)), "names its unit, if it has one"),
        ),
    )
