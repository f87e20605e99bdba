"""Gather: read-only. Requests → a snapshot of sockets, owners, processes and containers."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.errors import EngineAbsentError, EngineError, EngineNotPermittedError
from resolver.gather import engines
from resolver.model import EngineState, Snapshot, SocketState
from resolver.settings import GATHERER_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from resolver.model import Container, Policy, PortRequest, Process, Socket

_SERVING = {SocketState.LISTENING, SocketState.BOUND, SocketState.UNCONNECTED}


def gather(
    requests: Sequence[PortRequest] | None, policy: Policy, free: Collection[PortRequest] = ()
) -> Snapshot:
    """Everything that holds any of the requested ports; None asks for every port.

    What could not be learned is in the engines' `trouble`, or shows as a socket without owners.

    Args:
        requests: what was asked.
        policy: whether to ask an engine, and for how long.
        free: requests that were bound just now, which need no look at sockets and processes; an
            engine may still mean to publish them.
    """
    from resolver.gather.processes import blind_spot, describe, own_line  # noqa: PLC0415 - psutil's path

    sockets: tuple[Socket, ...] = ()
    held = None if requests is None else [each for each in requests if each not in free]
    if held is None or held:
        sockets = _with_owners(list_sockets(held))
    if held:
        sockets += _with_owners(_connections(held, sockets))
    own = own_line()
    owners = {owner for entry in sockets for owner in entry.owners}
    processes = describe({*own, *owners}) if owners else ()
    own_container = engines.own_container_id()
    containers, engine = _ask_engine(requests, processes, policy)
    if engine and (engines.in_container() or not engine.endpoint.startswith("unix://")):
        engine = _locate(engine, containers, sockets, requests)
    return Snapshot(
        sockets=sockets,
        processes=processes,
        containers=containers,
        engines=(engine,) if engine else (),
        own=own,
        own_container=own_container,
        blind_spot=blind_spot(),
    )


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


def _with_owners(sockets: tuple[Socket, ...]) -> tuple[Socket, ...]:
    from resolver.gather.owners import owners_of  # noqa: PLC0415 - a free port never gets here

    found = owners_of(entry.inode for entry in sockets)
    return tuple(
        replace(entry, owners=tuple(sorted({*entry.owners, *found.get(entry.inode, ())})))
        for entry in sockets
    )


def _ask_engine(
    requests: Sequence[PortRequest] | None, processes: Iterable[Process], policy: Policy
) -> tuple[tuple[Container, ...], EngineState | None]:
    """The engine's containers, within the deadline; None where it is not to be asked."""
    if not policy.use_docker:
        return (), None
    from resolver.host.engine_client import prepare  # noqa: PLC0415 - only where one is asked

    endpoint = engines.endpoint()
    ids = {
        found
        for process in processes
        for found in map(engines.container_id_in, process.cgroups)
        if found
    }
    limit = policy.docker_timeout_seconds
    try:
        prepare(endpoint, limit)
        return _within(limit, lambda: _list(endpoint, limit, requests, ids)), EngineState(endpoint)
    except EngineAbsentError as error:
        return (), EngineState(endpoint, trouble=str(error), absent=True)
    except EngineNotPermittedError as error:
        return (), EngineState(endpoint, trouble=str(error), forbidden=True)
    except EngineError as error:
        return (), EngineState(endpoint, trouble=str(error))
    except TimeoutError:
        return (), EngineState(endpoint, trouble=f"{endpoint} did not answer in {limit:g} s")


def _list(
    endpoint: str, limit: float, requests: Sequence[PortRequest] | None, ids: set[str]
) -> tuple[Container, ...]:
    from resolver.gather.containers import list_containers  # noqa: PLC0415 - loads the SDK

    return list_containers(endpoint, limit, requests, ids)


def _within(seconds: float, ask: Callable[[], tuple[Container, ...]]) -> tuple[Container, ...]:
    """What `ask` returns or raises, or TimeoutError; an answer that comes too late is dropped."""
    answers: list[tuple[Container, ...]] = []
    errors: list[EngineError] = []

    def work() -> None:
        try:
            answers.append(ask())
        except EngineError as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="engine", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError
    return answers[0]


def _locate(
    engine: EngineState,
    containers: tuple[Container, ...],
    sockets: tuple[Socket, ...],
    requests: Sequence[PortRequest] | None,
) -> EngineState:
    """Whether the engine's ports are ours: seen from inside a container, they mostly are not.

    A published port that has no socket here is in another network namespace.
    """
    here = {entry.binding for entry in sockets}
    missing = [
        binding
        for container in containers
        if container.state == "running"
        for binding in container.published
        if binding not in here
        and (requests is None or any(request.meets(binding) for request in requests))
    ]
    if not missing:
        return engine
    why = "this command runs in a container" if engines.in_container() else "the engine is remote"
    return replace(engine, elsewhere=f"{missing[0]} is published, but not here: {why}")
