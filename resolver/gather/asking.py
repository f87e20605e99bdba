"""Asks every engine at once, each within its deadline, and tells whether its ports are ours."""

from __future__ import annotations

import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from resolver.errors import EngineAbsentError, EngineError, EngineNotPermittedError
from resolver.gather import engines
from resolver.model import EngineState
from resolver.values import replace, value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolver.model import Container, Policy, PortRequest, Process, Socket


@value
class _Answer:
    """What one engine said."""

    engine: EngineState
    containers: tuple[Container, ...] = ()


def ask_engines(
    requests: Sequence[PortRequest] | None,
    processes: Sequence[Process],
    sockets: tuple[Socket, ...],
    policy: Policy,
) -> tuple[tuple[Container, ...], tuple[EngineState, ...]]:
    """The containers that publish a requested port or run one of the processes, and how it went.

    Our own container is among them, where an engine knows it. Both are empty where no engine is to
    be asked. The whole takes `docker_timeout_seconds` and a little, and what an engine did not say
    by then is in its `trouble`. Of an engine that was merely found, and whose ports are not ours,
    no containers are told: they are in nobody's way here.
    """
    if not policy.use_docker:
        return (), ()
    own = engines.own_container_id()
    told = [
        _located(each, own, sockets, requests)
        for each in _ask(requests, _container_ids(processes), processes, policy)
    ]
    told = _distinct(told)
    containers = [
        container
        for each in told
        if each.engine.chosen or not each.engine.elsewhere
        for container in each.containers
    ]
    return tuple(containers), tuple(each.engine for each in told)


def _container_ids(processes: Iterable[Process]) -> frozenset[str]:
    """The containers that the processes run in."""
    paths = (path for process in processes for path in process.cgroups)
    return frozenset(filter(None, map(engines.container_id_in, paths)))


def _located(
    answer: _Answer,
    own: str | None,
    sockets: tuple[Socket, ...],
    requests: Sequence[PortRequest] | None,
) -> _Answer:
    if answer.engine.trouble is not None:
        return answer
    from resolver.gather.places import elsewhere  # noqa: PLC0415 - only where one answered

    away = elsewhere(answer.engine.endpoint, answer.containers, own, sockets, requests)
    return replace(answer, engine=replace(answer.engine, elsewhere=away))


def _distinct(told: list[_Answer]) -> list[_Answer]:
    """Each engine once: two endpoints that tell of the same container are one engine's.

    The first stays; where either path leads to ports that are ours, they are.
    """
    found: list[_Answer] = []
    for answer in told:
        ids = {container.id for container in answer.containers}
        known = next(
            (each for each in found if ids & {container.id for container in each.containers}), None
        )
        if known is None:
            found.append(answer)
        elif known.engine.elsewhere and not answer.engine.elsewhere:
            found[found.index(known)] = _Answer(
                replace(known.engine, elsewhere=None), known.containers
            )
    return found


def _ask(
    requests: Sequence[PortRequest] | None,
    ids: frozenset[str],
    processes: Iterable[Process],
    policy: Policy,
) -> list[_Answer]:
    """Every engine's answer, the chosen one's first; asked side by side.

    The SDK is slow to load, so that does not count, and only happens where an engine is there.
    """
    limit = policy.docker_timeout_seconds
    reached: SimpleQueue[bool] = SimpleQueue()
    inquiries = [
        _Inquiry(endpoint, limit, requests, ids, reached)
        for endpoint in engines.endpoints(processes)
    ]
    deadline = time.monotonic() + limit
    for inquiry in inquiries:
        inquiry.start()
    if _any_reached(reached, len(inquiries), deadline):
        from resolver.host.engine_client import load_sdk  # noqa: PLC0415

        deadline += load_sdk()
    for inquiry in inquiries:
        inquiry.join(max(0.0, deadline - time.monotonic()))
    return [inquiry.answer(chosen=number == 0) for number, inquiry in enumerate(inquiries)]


def _any_reached(reached: SimpleQueue[bool], count: int, deadline: float) -> bool:
    """Whether anybody listens at one of the endpoints; returns as soon as that is known."""
    try:
        return any(reached.get(timeout=max(0.0, deadline - time.monotonic())) for _ in range(count))
    except Empty:
        return False


class _Inquiry(threading.Thread):
    """One engine, asked in a thread of its own; an answer that comes too late is dropped."""

    def __init__(
        self,
        endpoint: str,
        limit_seconds: float,
        requests: Sequence[PortRequest] | None,
        ids: frozenset[str],
        reached: SimpleQueue[bool],
    ) -> None:
        super().__init__(name=f"engine {endpoint}", daemon=True)
        self._endpoint = endpoint
        self._limit = limit_seconds
        self._requests = requests
        self._ids = ids
        self._reached = reached
        self._containers: tuple[Container, ...] | None = None
        self._error: EngineError | None = None

    def run(self) -> None:
        """Tells whether anybody listens, then asks."""
        from resolver.host.engine_client import check_socket  # noqa: PLC0415

        try:
            check_socket(self._endpoint, self._limit)
        except EngineError as error:
            self._error = error
        self._reached.put(self._error is None)
        if self._error is None:
            self._list()

    def _list(self) -> None:
        from resolver.gather.containers import list_containers  # noqa: PLC0415 - loads the SDK

        client = engines.client(self._endpoint)
        try:
            self._containers = list_containers(
                self._endpoint, self._limit, self._requests, self._ids, client
            )
        except EngineError as error:
            self._error = error

    def answer(self, *, chosen: bool) -> _Answer:
        """What was said so far; to be called once, when the deadline is over."""
        state = EngineState(self._endpoint, chosen=chosen, client=engines.client(self._endpoint))
        if self.is_alive():
            trouble = f"{self._endpoint} did not answer in {self._limit:g} s"
            return _Answer(replace(state, trouble=trouble))
        if self._error is None and self._containers is None:  # it broke: silence is no answer
            return _Answer(replace(state, trouble=f"{self._endpoint} could not be asked"))
        if self._error is None:
            return _Answer(state, self._containers or ())
        nobody = not chosen and isinstance(self._error.__cause__, ConnectionRefusedError)
        return _Answer(
            replace(
                state,
                trouble=str(self._error),
                absent=nobody or isinstance(self._error, EngineAbsentError),
                forbidden=isinstance(self._error, EngineNotPermittedError),
            )
        )
