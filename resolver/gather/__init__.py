"""Gather: read-only. Requests → a snapshot of sockets, owners, processes and containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.gather import engines
from resolver.gather.engine_files import saved_containers
from resolver.gather.engine_queries import ask_engines
from resolver.gather.owners import with_owners
from resolver.gather.podman import with_podman
from resolver.gather.processes import blind_spot, describe, own_line
from resolver.gather.receivers import receivers_of
from resolver.gather.redirects import list_redirects
from resolver.gather.sockets import list_sockets, occupying
from resolver.host.runner import run_command
from resolver.model import Snapshot

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from resolver.model import Policy, PortRequest, Process, ProcessIdentity
    from resolver.protocols import CommandRunner

__all__ = ["gather", "list_sockets"]

_UNLISTED = (
    "the kernel does not rule out NAT rules, and no tool here lists all of them (iptables, nft): "
    "one of them may send a port elsewhere"
)
_GENERAL = "a rule in {}: what is sent to a port that can be bound may go there"


def gather(
    requests: Sequence[PortRequest] | None,
    policy: Policy,
    free: Collection[PortRequest] = (),
    run: CommandRunner = run_command,
) -> Snapshot:
    """Everything that holds any of the requested ports; None asks for every port.

    What could not be learned is in the engines' `error`, or shows as a socket without owners.
    `free` were bound just now, and need no look at sockets and processes, not even at our own line;
    an engine may still mean to publish them.
    """
    held = None if requests is None else [each for each in requests if each not in free]
    sockets, scan = with_owners(occupying(held), complete=policy.complete)
    ownerless = {entry.inode for entry in sockets if entry.inode > 0 and not entry.owners}
    nat = list_redirects(requests, run)
    receivers = receivers_of(nat.redirects)
    owners = {owner for entry in sockets for owner in entry.owners}
    others = {*owners, *(found for _, found in receivers.known)}
    own, processes = _with_own_line(others) if sockets or nat.redirects else ((), ())
    containers, asked = ask_engines(requests, processes, sockets, policy, nat)
    if containers and not own:  # of a free port, between two restarts
        own, processes = _with_own_line(())
    if sockets and policy.use_docker:
        more, podmans = with_podman(containers, sockets, processes, run)
        containers, asked = (*containers, *more), (*asked, *podmans)
    if processes and any(each.error for each in asked):
        holding = [each for each in processes if each.identity not in own]
        containers = (*containers, *saved_containers(holding, containers))
    return Snapshot(
        sockets=sockets,
        processes=processes,
        containers=containers,
        engines=asked,
        redirects=nat.redirects,
        receivers=receivers.known,
        unclear=receivers.unclear,
        own=own,
        own_container=engines.own_container_id(),
        contained=engines.in_container(),
        blind_spot=blind_spot(ownerless) if sockets else "",
        scan=scan,
        notes=(*map(_GENERAL.format, nat.general), *([_UNLISTED] if nat.unlisted else ())),
    )


def _with_own_line(
    others: Collection[ProcessIdentity],
) -> tuple[tuple[ProcessIdentity, ...], tuple[Process, ...]]:
    """This process and its ancestors, and the facts about them and about the others."""
    own = own_line()
    return own, describe({*own, *others})
