"""Snapshot → holders: one for each owner (process family or container) of each binding. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

from msgspec.structs import replace

from resolver.gather.engines import container_id_in
from resolver.gather.machines import machine_above
from resolver.gather.podman import conmons_container
from resolver.host import trust
from resolver.model import ANY_IPV4, Binding, Container, Holder, SocketState, meets_any
from resolver.programs import works_for_engine

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from resolver.model import PortRequest, Process, ProcessIdentity, Redirect, Snapshot, Socket

# States in which a socket of its own keeps others off the port, whoever else is there
_HOLDING = {SocketState.LISTENING, SocketState.BOUND, SocketState.UNCONNECTED}
# systemd lets a user make cgroups of any name below this one (systemd's "Control Group APIs and
# Delegation"): whose container a path there names is that user's word
_DELEGATED = r"/user@(\d{1,10})\.service(?:/|\Z)"
# Their rules lead to containers, each of which has a process of its own
_ENGINES_CHAINS = {"DOCKER", "NETAVARK-HOSTPORT-DNAT", "CNI-HOSTPORT-DNAT"}
_KERNEL = "the kernel itself holds it (WireGuard, NFS, …): no process can be ended for it"


def holders(snapshot: Snapshot, requests: Sequence[PortRequest] | None) -> tuple[Holder, ...]:
    """Every holder of the requested ports, sorted by binding; None means of every port.

    Sockets that merely use the port (connections) are holders only where nothing else holds that
    port, since they are then what is in the way. Connections of a holder's own are left out.
    """
    found: list[Holder] = []
    for binding, sockets in sorted(_by_binding(snapshot.sockets).items()):
        found.extend(_holders_of(binding, sockets, snapshot))
    covered = {holder.binding for holder in found if _is_vouched_for(holder.container)}
    away = snapshot.engines_elsewhere
    for container in filter(_is_vouched_for, snapshot.containers):
        found.extend(
            Holder(binding, SocketState.PUBLISHED, container=container)
            for binding in container.published
            if (binding not in covered or container.engine in away) and meets_any(requests, binding)
        )
    if requests is not None:
        found.extend(_redirected(requests, snapshot, found))
    return tuple(_with_their_own_holds(_without_connections(found)))


def _is_vouched_for(container: Container | None) -> bool:
    """Whether an engine knows the container whose word counts for everybody's ports."""
    return container is not None and bool(container.engine) and not container.foreign


def _redirected(
    requests: Sequence[PortRequest], snapshot: Snapshot, found: list[Holder]
) -> list[Holder]:
    """Ports that a NAT rule captures, where no container or forwarder explains the rule."""
    explained = {
        holder.binding.transport_port
        for holder in found
        if _is_vouched_for(holder.container) or any(map(works_for_engine, holder.processes))
    }
    # The engine takes its rule away with each end; what was listed may have been from before it.
    between_runs = {
        holder.binding.transport_port
        for holder in found
        if holder.container and holder.container.state == "restarting"
    }
    return [
        Holder(
            Binding(request.transport, request.address or ANY_IPV4, request.port),
            SocketState.REDIRECTED,
            container=_receiving(rule, snapshot),
            redirect=rule,
        )
        for request in requests
        for rule in _inhabited_first(request, snapshot)
        if (port := (request.transport, request.port)) not in explained
        or (port not in between_runs and _is_left_over(rule, snapshot))
    ]


def _inhabited_first(request: PortRequest, snapshot: Snapshot) -> Iterator[Redirect]:
    """The rules that take a port; of one with several places those where somebody may be.

    Where nobody is at any of them, one is told of.
    """
    lived_in = {*dict(snapshot.receivers), *snapshot.unclear}
    seen = set()
    rules = [rule for rule in snapshot.redirects if rule.captures(request)]
    for rule in sorted(rules, key=lambda each: each.leads not in lived_in):
        if rule.leads in lived_in or rule.delete not in seen:
            yield rule
        seen.add(rule.delete)


def _is_left_over(rule: Redirect, snapshot: Snapshot) -> bool:
    """Whether an engine made a rule for a container that is no longer there.

    Whoever stops the port's living holder leaves such a rule, and what arrives still goes nowhere.
    From inside a container, other ones' addresses are not seen.
    """
    chain = rule.where.rpartition(" ")[2]
    gone = rule.leads not in {*dict(snapshot.receivers), *snapshot.unclear}
    return bool(rule.leads) and gone and chain in _ENGINES_CHAINS and not snapshot.contained


def _receiving(rule: Redirect, snapshot: Snapshot) -> Container | None:
    """The living container to which a rule leads."""
    process = snapshot.process(dict(snapshot.receivers).get(rule.leads))
    if process is None:
        return None
    return _inhabited(process.cgroups, {process.uid}, snapshot) or _machine([process], snapshot)


def _by_binding(sockets: Iterable[Socket]) -> dict[Binding, list[Socket]]:
    found: dict[Binding, list[Socket]] = defaultdict(list)
    for entry in sockets:
        if entry.state is not SocketState.CLOSING:
            found[entry.binding].append(entry)
    return found


def _holders_of(binding: Binding, sockets: list[Socket], snapshot: Snapshot) -> Iterator[Holder]:
    given = frozenset(_given(sockets, snapshot))
    for family in _families(sockets, snapshot, given):
        yield _holder(binding, sockets, family, snapshot)
    for process in sorted(given):
        yield _recipient(binding, sockets, process, snapshot)
    orphans = [entry for entry in sockets if not entry.owners]
    if orphans:
        first = orphans[0]
        container = _publisher(binding, {first.uid}, snapshot)
        container = container or _inhabited([first.cgroup or ""], {first.uid}, snapshot)
        unseen = snapshot.blind_spot if first.inode else _KERNEL
        yield Holder(
            binding,
            first.state,
            container=container,
            uid=first.uid,
            hidden=None if container and container.engine else unseen,
            kernel=first.inode == 0,
            cgroup=first.cgroup,
            peer=first.peer,
            v6only=first.v6only,
        )


def _given(sockets: list[Socket], snapshot: Snapshot) -> Iterator[ProcessIdentity]:
    """The owners that have no socket here but such as another user made.

    Anybody may hand a socket to another process (unix(7), SCM_RIGHTS). Root's own is different:
    servers open it as root, and go on as somebody else.
    """
    for owner in {owner for entry in sockets for owner in entry.owners}:
        process = snapshot.process(owner)
        makers = {entry.uid for entry in sockets if owner in entry.owners}
        if process is not None and process.uids and makers.isdisjoint({0, None, *process.uids}):
            yield owner


def _recipient(
    binding: Binding, sockets: list[Socket], owner: ProcessIdentity, snapshot: Snapshot
) -> Holder:
    process = snapshot.process(owner)
    family = [process] if process else []
    return replace(_holder(binding, sockets, family, snapshot), container=None, handed_over=True)


def _families(
    sockets: list[Socket], snapshot: Snapshot, given: Collection[ProcessIdentity]
) -> list[list[Process]]:
    """The owners, grouped by their topmost ancestor that is itself an owner; masters first."""
    owners = {owner for entry in sockets for owner in entry.owners}.difference(given)
    found: dict[ProcessIdentity, list[Process]] = {}
    for owner in sorted(owners):
        process = snapshot.process(owner)
        if process is not None:
            above = [ancestor for ancestor in process.ancestors if ancestor in owners]
            found.setdefault(above[-1] if above else owner, []).append(process)
    return [
        sorted(family, key=lambda process: (process.identity != master, process.identity))
        for master, family in sorted(found.items())
    ]


def _holder(
    binding: Binding, sockets: list[Socket], family: list[Process], snapshot: Snapshot
) -> Holder:
    identities = {process.identity for process in family}
    theirs = [entry for entry in sockets if identities & set(entry.owners)]
    own = min(theirs, key=lambda entry: entry.state is not SocketState.LISTENING)
    return Holder(
        binding,
        own.state,
        processes=tuple(family),
        masters=(family[0].identity,),
        container=_container_of(binding, theirs, family, snapshot),
        uid=own.uid,
        inodes=frozenset(entry.inode for entry in theirs),
        peer=own.peer,
        v6only=own.v6only,
    )


def _container_of(
    binding: Binding, sockets: list[Socket], family: list[Process], snapshot: Snapshot
) -> Container | None:
    """The container behind a forwarder or an engine, or the one that the process runs in."""
    uids = {entry.uid for entry in sockets} | {process.uid for process in family}
    if any(map(works_for_engine, family)):
        return _publisher(binding, uids, snapshot)
    paths = [path for process in family for path in process.cgroups]
    inhabited = _inhabited(paths, uids, snapshot)
    if inhabited and inhabited.engine:
        return inhabited
    return _watched(family, snapshot) or inhabited or _machine(family, snapshot)


def _watched(family: Iterable[Process], snapshot: Snapshot) -> Container | None:
    """The container of the conmon above a process, known to that conmon's user's engine or not."""
    for process in family:
        for watcher in snapshot.above(process):
            found, name = conmons_container(watcher)
            if found and found != snapshot.own_container:
                return _known(found, watcher, snapshot) or _unknown(found, name, watcher)
    return None


def _machine(family: Iterable[Process], snapshot: Snapshot) -> Container | None:
    """The container without an engine in which a process runs; never the one that we are in."""
    for process in family:
        above = (each for each in snapshot.above(process) if each.identity not in snapshot.own)
        if found := machine_above(above):
            return found
    return None


def _known(found: str, watcher: Process, snapshot: Snapshot) -> Container | None:
    """Anybody can call a process so: its container is one of its own user's engine."""
    uids = set(watcher.uids or ())
    containers = (each for each in snapshot.containers if each.id == found)
    return next((each for each in containers if uids == {each.uid}), None)


def _unknown(found: str, name: str, watcher: Process) -> Container:
    owner = trust.owner_account(watcher.uid)
    client = (*(owner.prefix if owner else ()), "podman")
    return Container(found, name or found[:12], engine="", state="unknown", client=client)


def _inhabited(
    paths: Sequence[str], uids: Collection[int | None], snapshot: Snapshot
) -> Container | None:
    """The container that a cgroup path names, known to an engine or not; never our own."""
    found = next(filter(None, map(container_id_in, paths)), None)
    if found is None or found == snapshot.own_container:
        return None
    makers = {int(maker) for path in paths for maker in re.findall(_DELEGATED, path)}
    return next(
        (
            each
            for each in snapshot.containers
            if each.id == found and _may_be_of(each, uids) and makers <= {each.uid}
        ),
        Container(found, found[:12], engine="", state="unknown"),
    )


def _publisher(
    binding: Binding, uids: Collection[int | None], snapshot: Snapshot
) -> Container | None:
    """The container that publishes exactly this binding, on an engine that shares our ports."""
    elsewhere = snapshot.engines_elsewhere
    here = (each for each in snapshot.containers if each.engine not in elsewhere)
    published = (each for each in here if binding in each.published and _may_be_of(each, uids))
    return next(published, None)


def _may_be_of(container: Container, uids: Collection[int | None]) -> bool:
    """Whether the engine's word counts for a holder: `uids` made its sockets, and run it."""
    return not container.foreign or set(uids) == {container.uid}


def _without_connections(found: list[Holder]) -> Iterator[Holder]:
    """Drops connections where somebody else holds the port: they are not what is in the way."""
    serving = {
        holder.binding.transport_port
        for holder in found
        if holder.state in _HOLDING or holder.state is SocketState.PUBLISHED
    }
    for holder in found:
        is_use = holder.state is SocketState.CONNECTED
        if not (is_use and holder.binding.transport_port in serving):
            yield holder


def _with_their_own_holds(found: Iterable[Holder]) -> Iterator[Holder]:
    """A server's socket that is bound beside the one that listens is no holder of its own.

    Whoever is started by `ultra-ports run` inherits such a one.
    """
    found = list(found)
    bound, listening = (
        _by_port(each for each in found if each.state is state)
        for state in (SocketState.BOUND, SocketState.LISTENING)
    )
    for holder in found:
        others = {SocketState.LISTENING: bound, SocketState.BOUND: listening}.get(holder.state, {})
        beside = others.get(holder.binding.transport_port, [])
        if holder.state is SocketState.LISTENING:
            held = (each.inodes for each in beside if _are_among(each, holder))
            yield replace(holder, inodes=holder.inodes.union(*held))
        elif not any(_are_among(holder, each) for each in beside):
            yield holder


def _by_port(found: Iterable[Holder]) -> Mapping[object, list[Holder]]:
    by_port: dict[object, list[Holder]] = defaultdict(list)
    for each in found:
        by_port[each.binding.transport_port].append(each)
    return by_port


def _are_among(few: Holder, many: Holder) -> bool:
    """Whether all who have the one have the other, too."""
    theirs = {process.identity for process in few.processes}
    return bool(theirs) and theirs <= {process.identity for process in many.processes}
