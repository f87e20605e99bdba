"""An init without a unit to show for it: PID 1, or a user's systemd manager."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.model import Classification, Command, Kind, Respawn

if TYPE_CHECKING:
    from resolver.model import Holder, Process, Snapshot
    from resolver.protocols import CommandRunner


def classify(holder: Holder, snapshot: Snapshot, _run: CommandRunner) -> Classification | None:
    """A holder whose end is the end of everything that it started."""
    first = next((found for found in holder.processes if _is_init(found)), None)
    if first is None:
        return None
    container = snapshot.own_container if first.pid == 1 else None
    return Classification(
        holder,
        Kind.PROTECTED,
        respawn=Respawn.UNKNOWN,
        chain=(str(first),),
        reason=f"{first} is an init: everything that it started ends with it",
        commands=(Command(("docker", "stop", container[:12]), "from outside"),)
        if container
        else (),
    )


def _is_init(process: Process) -> bool:
    return process.pid == 1 or process.name in {"systemd", "launchd"}
