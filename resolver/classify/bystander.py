"""Owners of sockets on the port who do not serve it: they are named, and left alone.

A connection whose own port is the requested one; and a socket that another user made. The kernel
keeps who made a socket, and anybody may hand one to a more privileged process (unix(7),
SCM_RIGHTS), which would be ended for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.model import Classification, Command, Kind, SocketState

if TYPE_CHECKING:
    from resolver.model import Holder, Snapshot
    from resolver.protocols import CommandRunner


def classify(holder: Holder, _snapshot: Snapshot, _run: CommandRunner) -> Classification | None:
    """A client that the kernel gave this port, a draining server, or who was handed a socket."""
    if holder.handed_over:
        return _handed_over(holder)
    if holder.state is not SocketState.CONNECTED or holder.master is None:
        return None
    peer = holder.peer or "its peer"
    return Classification(
        holder,
        Kind.BYSTANDER,
        chain=(str(holder.master), f"connection {holder.binding} → {peer}"),
        evidence=(f"connected to {peer}, with this port at its own end",),
        reason=f"{holder.master} does not listen here: its connection to {peer} uses this port",
        commands=(
            Command(
                ("kill", str(holder.master.pid)), f"or wait until the connection to {peer} closes"
            ),
        ),
    )


def _handed_over(holder: Holder) -> Classification | None:
    master = holder.master
    if master is None or holder.uid is None:
        return None
    maker = f"user id {holder.uid}"
    return Classification(
        holder,
        Kind.BYSTANDER,
        chain=(str(master), f"was given a socket of {maker}"),
        evidence=(f"{maker} made the socket, and {master} runs as {master.user or master.uid}",),
        reason=f"{master} was given this socket by {maker}, and is left alone",
    )
