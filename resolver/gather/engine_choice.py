"""Which engines are asked, what, and for how long: the one rule.

An engine's port has a socket of the engine's or of a forwarder, or a NAT rule; its containers have
their ids in their cgroups. An engine is asked where something points to it: such a socket, cgroup
or rule, a port that nobody explains, or one that is free, and may be a container's that is between
two restarts. Where every requested port is served, every owner is known, and nobody among them or
above them is of that kind, an engine could add nothing but a container between two restarts whose
port somebody else has taken: then it gets little time, or is not asked at all. Another user's is
asked about that user's sockets alone, and not at all where there are none. To learn who listens
behind an engine's socket it is connected to, and nothing is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from resolver.gather.engines import container_id_in
from resolver.gather.namespaces import is_engine_of_ours
from resolver.gather.sockets import is_served
from resolver.host.engine_client import socket_path
from resolver.model import EngineState, PortRequest
from resolver.programs import ENGINES, FORWARDERS, RELAYS, known_as
from resolver.settings import EXPLAINED_SHARE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolver.gather.redirects import Nat
    from resolver.model import Policy, Process, Socket


class Inquiry(Struct, frozen=True):
    """What an engine is asked: containers of these ports, and by id."""

    engine: EngineState
    requests: Sequence[PortRequest] | None
    ids: frozenset[str]


def patience_seconds(
    known: Iterable[EngineState],
    requests: Sequence[PortRequest] | None,
    sockets: Sequence[Socket],
    processes: Sequence[Process],
    nat: Nat,
    policy: Policy,
) -> float:
    """How long the engines are waited for; 0 where they are not asked.

    An engine whose ports are not known to be ours has to be asked, and so has one that is not
    there: an answer comes at once then. Another user's could explain nothing that this does not.
    """
    limit = policy.docker_timeout_seconds
    if not requests or not nat.readable or nat.redirects:
        return limit
    if not all(is_served(request, sockets) for request in requests):
        return limit
    if not all(_known(entry, processes) for entry in sockets) or any(map(_of_engines, processes)):
        return limit
    if not all(each.foreign or each.error or _here(each.endpoint) for each in known):
        return limit
    return limit * EXPLAINED_SHARE if policy.complete else 0.0


def inquiry(
    engine: EngineState,
    requests: Sequence[PortRequest] | None,
    processes: Sequence[Process],
    sockets: Sequence[Socket],
) -> Inquiry:
    """What an engine is asked; another user's is asked what concerns that user."""
    if engine.foreign and engine.error is None:
        processes = [each for each in processes if each.uid == engine.uid]
        requests = _requests_of(engine.uid, requests, sockets)
        if not requests:
            why = (
                f"{engine.endpoint} was not asked: user {engine.uid}, whose it is, has no such port"
            )
            engine = replace(engine, error=why, forbidden=True, asked=False)
    paths = (path for process in processes for path in process.cgroups)
    ids = frozenset(filter(None, map(container_id_in, paths)))
    return Inquiry(engine, requests, ids)


def _requests_of(
    uid: int | None, requests: Sequence[PortRequest] | None, sockets: Iterable[Socket]
) -> list[PortRequest]:
    """The requests that sockets of a user meet; where every port is asked for, those of them."""
    bindings = {entry.binding for entry in sockets if entry.uid == uid}
    if requests is None:
        return sorted({PortRequest(each.port, each.transport) for each in bindings})
    return [each for each in requests if any(map(each.meets, bindings))]


def _known(entry: Socket, processes: Iterable[Process]) -> bool:
    """Whether each owner of a socket could be looked at; a socket of the kernel's has none."""
    known = {process.identity for process in processes}
    return bool(entry.owners) and known.issuperset(entry.owners)


def _of_engines(process: Process) -> bool:
    works_for_one = known_as(process, FORWARDERS | ENGINES | RELAYS)
    return works_for_one or any(map(container_id_in, process.cgroups))


def _here(endpoint: str) -> bool:
    path = socket_path(endpoint)
    return path is not None and is_engine_of_ours(path)
