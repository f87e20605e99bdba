"""Gather: read-only. Requests → a snapshot of sockets, owners, processes and containers."""

from __future__ import annotations

import os
import sys

from resolver.gather import engines
from resolver.gather.asking import ask_engines
from resolver.host.identity import proc_is_ours
from resolver.host.runner import run_command
from resolver.model import Scan, Snapshot, SocketState
from resolver.settings import EXPLAINED_SHARE, GATHERER_VARIABLE
from resolver.values import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from resolver.model import (
        Container,
        EngineState,
        Pid,
        Policy,
        PortRequest,
        Process,
        ProcessIdentity,
        Redirect,
        Socket,
    )
    from resolver.protocols import CommandRunner

_SERVING = {SocketState.LISTENING, SocketState.BOUND, SocketState.UNCONNECTED}


def gather(
    requests: Sequence[PortRequest] | None,
    policy: Policy,
    free: Collection[PortRequest] = (),
    run: CommandRunner = run_command,
) -> Snapshot:
    """Everything that holds any of the requested ports; None asks for every port.

    What could not be learned is in the engines' `trouble`, or shows as a socket without owners.

    Args:
        requests: what was asked.
        policy: whether to ask an engine, and for how long.
        free: requests that were bound just now, which need no look at sockets and processes; an
            engine may still mean to publish them.
        run: reads the packet filter's rules.
    """
    sockets: tuple[Socket, ...] = ()
    near: tuple[Pid, ...] = ()
    scan = Scan.COMPLETE
    held = None if requests is None else [each for each in requests if each not in free]
    readable, redirects = _redirects(requests, run)
    if held is None or held:
        listed = list_sockets(held)
        if listed and held and not policy.complete:
            scan, near = _near(listed, redirects)
        sockets = _with_owners(listed, near)
    if held:
        sockets += _with_owners(_connections(held, sockets))
    owners = {owner for entry in sockets for owner in entry.owners}
    processes = _described(owners)
    glance = held is not None and not held
    may_spare = readable and not redirects
    spared = _unasked(requests, sockets, processes, policy) if may_spare else ()
    containers: tuple[Container, ...] = ()
    asked = spared
    if policy.complete or not spared:
        patience = policy if policy.patient or not spared else _briefly(policy)
        containers, asked = ask_engines(requests, processes, sockets, patience, glance=glance)
    seen = Snapshot(
        sockets=sockets,
        processes=processes,
        containers=containers,
        engines=asked,
        redirects=redirects,
        own_container=engines.own_container_id(),
        contained=engines.in_container(),
        scan=scan,
    )
    return seen if glance and not (containers or seen.redirects) else _with_own_place(seen)


def _unasked(
    requests: Sequence[PortRequest] | None,
    sockets: Sequence[Socket],
    processes: Sequence[Process],
    policy: Policy,
) -> tuple[EngineState, ...]:
    """The engines, where none of them could add much; empty where one could."""
    if not policy.use_docker or not requests or not sockets:
        return ()
    from resolver.gather.explained import unasked  # noqa: PLC0415 - only for held ports

    return unasked(requests, sockets, processes)


def _briefly(policy: Policy) -> Policy:
    limit = policy.docker_timeout_seconds * EXPLAINED_SHARE
    return replace(policy, docker_timeout_seconds=limit)


def _described(owners: Collection[ProcessIdentity]) -> tuple[Process, ...]:
    """The owners, what is above them, and this process's own line."""
    if not owners or not proc_is_ours():
        return ()
    from resolver.gather.processes import describe, own_line  # noqa: PLC0415 - none, mostly

    return describe({*own_line(), *owners})


def _with_own_place(seen: Snapshot) -> Snapshot:
    """The same, with who we are and what we cannot see: to judge holders by."""
    from resolver.gather.processes import blind_spot, own_line  # noqa: PLC0415 - there are some

    return replace(seen, own=own_line(), blind_spot=blind_spot())


def _redirects(
    requests: Sequence[PortRequest] | None, run: CommandRunner
) -> tuple[bool, tuple[Redirect, ...]]:
    """Whether NAT rules could be read, and those on named ports; only root may read them."""
    if requests is None or sys.platform != "linux" or os.geteuid() != 0:
        return False, ()
    from resolver.host.netfilter import may_redirect  # noqa: PLC0415 - only for root

    may = may_redirect()
    if not may:
        return may is not None, ()
    from resolver.gather.redirects import list_redirects  # noqa: PLC0415 - there are some

    return True, list_redirects(requests, run)


def list_sockets(
    requests: Sequence[PortRequest] | None, *, connections: bool = False
) -> tuple[Socket, ...]:
    """The sockets on the requested ports: from the kernel where it answers, else from psutil."""
    if sys.platform == "linux" and os.environ.get(GATHERER_VARIABLE) != "psutil":
        from resolver.gather import sock_diag  # noqa: PLC0415 - one of two ways

        try:
            return sock_diag.list_sockets(requests, connections=connections)
        except OSError:  # no sock_diag in this kernel or sandbox
            pass
    from resolver.gather import sockets  # noqa: PLC0415

    return sockets.list_sockets(requests, connections=connections)


def _connections(
    requests: Sequence[PortRequest], sockets: tuple[Socket, ...]
) -> tuple[Socket, ...]:
    """Connected and closing sockets on the requested ports that no serving socket explains."""
    explained = {
        request
        for request in requests
        for entry in sockets
        if entry.state in _SERVING and request.meets(entry.binding, v6only=entry.v6only)
    }
    open_questions = [request for request in requests if request not in explained]
    if not open_questions:
        return ()
    known = {(entry.binding, entry.inode) for entry in sockets}
    return tuple(
        entry
        for entry in list_sockets(open_questions, connections=True)
        if (entry.binding, entry.inode) not in known
    )


def _near(sockets: Sequence[Socket], redirects: Sequence[Redirect]) -> tuple[Scan, tuple[Pid, ...]]:
    """Some processes among which each socket is found; none where all have to be looked into."""
    from resolver.gather.owners import owners_of  # noqa: PLC0415 - a free port never gets here

    inodes = {entry.inode for entry in sockets if entry.inode}
    for scan, look in ((Scan.CGROUP, _in_cgroups), (Scan.FORWARDERS, _forwarders)):
        pids = look(sockets, redirects)
        if inodes and pids and owners_of(inodes, pids).keys() == inodes:
            return scan, pids
    return Scan.COMPLETE, ()


def _in_cgroups(sockets: Sequence[Socket], _redirects: Sequence[Redirect]) -> tuple[Pid, ...]:
    """The processes of the cgroups that the sockets were made in.

    Empty where that says nothing: a socket may have been made elsewhere, its owner may have moved,
    and cgroup 1 is the root, with everybody in it.
    """
    ids = {entry.cgroup_id for entry in sockets if entry.inode}
    known = {number for number in ids if number is not None and number > 1}
    if not ids or known != ids:
        return ()
    from resolver.gather.cgroups import members_of  # noqa: PLC0415 - seldom

    return members_of(known) or ()


def _forwarders(sockets: Sequence[Socket], redirects: Sequence[Redirect]) -> tuple[Pid, ...]:
    """The docker-proxies, where a NAT rule for each socket's port makes one likely."""
    ports = {
        (rule.transport, port) for rule in redirects for port in range(rule.first, rule.last + 1)
    }
    if not all((entry.binding.transport, entry.binding.port) in ports for entry in sockets):
        return ()
    from resolver.host.processes import pids_of  # noqa: PLC0415 - mostly there is no rule
    from resolver.programs import PROXY  # noqa: PLC0415

    return tuple(pids_of(PROXY))


def _with_owners(sockets: tuple[Socket, ...], pids: tuple[Pid, ...] = ()) -> tuple[Socket, ...]:
    """The sockets with their owners among the given processes, or among all."""
    from resolver.gather.owners import owners_of  # noqa: PLC0415 - a free port never gets here

    found = owners_of((entry.inode for entry in sockets), pids or None)
    return _with_cgroups(
        tuple(
            replace(entry, owners=tuple(sorted({*entry.owners, *found.get(entry.inode, ())})))
            for entry in sockets
        )
    )


def _with_cgroups(sockets: tuple[Socket, ...]) -> tuple[Socket, ...]:
    """The same, with the cgroup of each socket whose owner is hidden."""
    ids = {entry.cgroup_id for entry in sockets if entry.inode and not entry.owners}
    ids.discard(None)
    if not ids:
        return sockets
    from resolver.gather.cgroups import paths_of  # noqa: PLC0415 - only for hidden owners

    found = paths_of([number for number in ids if number is not None])
    return tuple(
        entry if entry.owners else replace(entry, cgroup=found.get(entry.cgroup_id or 0))
        for entry in sockets
    )
