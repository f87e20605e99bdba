"""Whether the sockets and processes of this machine explain the ports, without an engine's word.

An engine's port has a socket of the engine's or of a forwarder, or a NAT rule; its containers have
their ids in their cgroups. Where every requested port is served, every owner is known, and nobody
among them or above them is of that kind, an engine could add nothing but a container that is
between two restarts, whose port somebody else has taken. To learn who listens behind an engine's
socket it is connected to, and nothing is said.
"""

from __future__ import annotations

from resolver.gather.engines import container_id_in, known_engines, path_of
from resolver.gather.places import is_engine_of_ours
from resolver.model import SocketState
from resolver.programs import ENGINES, FORWARDERS, RELAYS, known_as
from resolver.values import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolver.model import EngineState, PortRequest, Process, Socket

SERVING = frozenset({SocketState.LISTENING, SocketState.BOUND, SocketState.UNCONNECTED})
_OTHERS = FORWARDERS | ENGINES | RELAYS


def unasked(
    requests: Sequence[PortRequest], sockets: Sequence[Socket], processes: Sequence[Process]
) -> tuple[EngineState, ...]:
    """The engines that need not be asked; empty where one has to be.

    Those whose ports are not known to be ours have to be, as have those that are not there: an
    answer comes at once then. Another user's engine could explain nothing that this does not.
    """
    if not all(_serves(request, sockets) for request in requests):
        return ()
    if not all(_known(entry, processes) for entry in sockets) or any(map(_of_engines, processes)):
        return ()
    found = known_engines(processes)
    if not all(each.foreign or each.trouble or _here(each.endpoint) for each in found):
        return ()
    return tuple(replace(each, asked=False) for each in found)


def _serves(request: PortRequest, sockets: Iterable[Socket]) -> bool:
    return any(
        entry.state in SERVING and request.meets(entry.binding, v6only=entry.v6only)
        for entry in sockets
    )


def _known(entry: Socket, processes: Iterable[Process]) -> bool:
    """Whether each owner of a socket could be looked at; a socket of the kernel's has none."""
    known = {process.identity for process in processes}
    return bool(entry.owners) and known.issuperset(entry.owners)


def _of_engines(process: Process) -> bool:
    return known_as(process, _OTHERS) or any(map(container_id_in, process.cgroups))


def _here(endpoint: str) -> bool:
    path = path_of(endpoint)
    return path is not None and is_engine_of_ours(path)
