"""A NAT rule that captures the port: nobody listens, and yet connections go somewhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.model import Classification, Command, Kind, Respawn

if TYPE_CHECKING:
    from resolver.model import Holder, Snapshot
    from resolver.protocols import CommandRunner


def classify(holder: Holder, _snapshot: Snapshot, _run: CommandRunner) -> Classification | None:
    """A rule without a container that it belongs to."""
    rule = holder.redirect
    if rule is None:
        return None
    return Classification(
        holder,
        Kind.REDIRECT,
        respawn=Respawn.UNKNOWN,
        chain=(rule.where, f"sends it to {rule.target}"),
        evidence=("the port can be bound, and what arrives from outside still goes elsewhere",),
        reason=f"a NAT rule ({rule.where}) sends this port to {rule.target}",
        commands=(Command(rule.delete),),
    )
