"""Gather: read-only. Requests → a snapshot of sockets, owners, processes and containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.gather.engine_files import saved_containers
from resolver.gather.engine_queries import ask_engines
from resolver.gather.engines import in_container, own_container_id
from resolver.gather.owners import with_owners
from resolver.gather.podman import with_podman
from resolver.gather.processes import blind_spot, describe, own_line
from resolver.gather.receivers import receivers_of
from resolver.gather.redirects import list_redirects
from resolver.gather.sockets import list_sockets, occupying
from resolver.host.runner import run_command
from resolver.model import Scan, Snapshot

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from resolver.gather.redirects import Nat
    from resolver.model import Container, EngineState, Policy, PortRequest, Process, Socket
    from resolver.protocols import CommandRunner

__all__ = ["gather", "list_sockets"]


def gather(
    requests: Sequence[PortRequest] | None,
    policy: Policy,
    free: Collection[PortRequest] = (),
    run: CommandRunner = run_command,
) -> Snapshot:
    """Everything that holds any of the requested ports; None asks for every port.

    What could not be learned is in the engines' `error`, or shows as a socket without owners.
    `free` were bound just now, and need no look at sockets and processes, not even at our own line;
    an engine may still mean to publish them. What looks at the others is not loaded for them.
    """
    held = None if requests is None else [each for each in requests if each not in free]
    sockets, scan = occupying(held), Scan.COMPLETE
    if sockets:
        sockets, scan = with_owners(sockets, complete=policy.complete)
    nat = list_redirects(requests, run)
    receivers = receivers_of(nat.redirects)
    owners = {owner for entry in sockets for owner in entry.owners}
    others = owners.union(found for _, found in receivers.known)
    processes = describe({*own_line(), *others}) if sockets or nat.redirects else ()
    containers, asked = _containers(requests, processes, sockets, policy, nat, run)
    if containers and not processes:  # of a free port, between two restarts
        processes = describe(own_line())
    return Snapshot(
        sockets=sockets,
        processes=processes,
        containers=containers,
        engines=asked,
        redirects=nat.redirects,
        receivers=receivers.known,
        unclear=receivers.unclear,
        own=own_line() if processes else (),
        own_container=own_container_id(),
        contained=in_container(),
        blind_spot=blind_spot(sockets) if sockets else "",
        scan=scan,
        notes=nat.notes,
    )


def _containers(
    requests: Sequence[PortRequest] | None,
    processes: Sequence[Process],
    sockets: tuple[Socket, ...],
    policy: Policy,
    nat: Nat,
    run: CommandRunner,
) -> tuple[tuple[Container, ...], tuple[EngineState, ...]]:
    """What engines say, then podman's command line, and of those that are silent their files."""
    found, asked = ask_engines(requests, processes, sockets, policy, nat)
    if sockets and policy.use_docker:
        more, podmans = with_podman(found, sockets, processes, run)
        found, asked = (*found, *more), (*asked, *podmans)
    silent = any(each.error for each in asked)
    saved = saved_containers(processes, found) if processes and silent else ()
    return (*found, *saved), asked
