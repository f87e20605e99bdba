"""A connection whose own port is the requested one: in the way, yet serving nobody there."""

from __future__ import annotations

from resolver.model import Classification, Kind, SocketState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resolver.model import Holder, Snapshot
    from resolver.protocols import CommandRunner

RANK = 30


def classify(holder: Holder, _snapshot: Snapshot, _run: CommandRunner) -> Classification | None:
    """The owner of a connection: a client that the kernel gave this port, or a draining server."""
    if holder.state is not SocketState.CONNECTED or holder.master is None:
        return None
    peer = holder.peer or "its peer"
    return Classification(
        holder,
        Kind.BYSTANDER,
        chain=(str(holder.master), f"connection {holder.binding} → {peer}"),
        evidence=(f"connected to {peer}, with this port at its own end",),
        reason=f"{holder.master} does not listen here: its connection to {peer} uses this port",
        commands=(f"kill {holder.master.pid}   # or wait until the connection to {peer} closes",),
    )
