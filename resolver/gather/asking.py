"""Asks the engine, within its deadline, and tells whether its ports are ours."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.errors import EngineAbsentError, EngineError, EngineNotPermittedError
from resolver.gather import engines
from resolver.model import EngineState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from resolver.model import Container, Policy, PortRequest, Process, Socket


def ask_engines(
    requests: Sequence[PortRequest] | None,
    processes: Iterable[Process],
    sockets: tuple[Socket, ...],
    policy: Policy,
) -> tuple[tuple[Container, ...], tuple[EngineState, ...]]:
    """The containers that publish a requested port or run one of the processes, and how it went.

    Both are empty where no engine is to be asked. The whole takes `docker_timeout_seconds` at most,
    and what an engine did not say by then is in its `trouble`.
    """
    if not policy.use_docker:
        return (), ()
    ids = {
        found
        for process in processes
        for found in map(engines.container_id_in, process.cgroups)
        if found
    }
    containers, engine = _ask(engines.endpoint(), policy.docker_timeout_seconds, requests, ids)
    if engines.in_container() or not engine.endpoint.startswith("unix://"):
        engine = _locate(engine, containers, sockets, requests)
    return containers, (engine,)


def _ask(
    endpoint: str, limit: float, requests: Sequence[PortRequest] | None, ids: set[str]
) -> tuple[tuple[Container, ...], EngineState]:
    from resolver.host.engine_client import prepare  # noqa: PLC0415 - only where one is asked

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
