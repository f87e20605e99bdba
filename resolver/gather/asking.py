"""Asks every engine at once, each within its deadline, and tells whether its ports are ours."""

from __future__ import annotations

import time

from resolver.errors import EngineAbsentError, EngineError, EngineNotPermittedError
from resolver.gather import engines
from resolver.host.engine_client import is_local, load_sdk
from resolver.model import EngineState
from resolver.values import replace, value

TYPE_CHECKING = False
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
    *,
    glance: bool = False,
) -> tuple[tuple[Container, ...], tuple[EngineState, ...]]:
    """The containers that publish a requested port or run one of the processes, and how it went.

    Our own container is among them, where an engine knows it. Both are empty where no engine is to
    be asked. The whole takes `docker_timeout_seconds` and a little, and what an engine did not say
    by then is in its `trouble`. Of an engine that was merely found, and whose ports are not ours,
    no containers are told: they are in nobody's way here. `glance`: every port could be bound, so
    an answer in which none of them occurs is not read any further.
    """
    if not policy.use_docker:
        return (), ()
    own = engines.own_container_id()
    told = [
        _located(each, own, sockets, requests)
        for each in _ask(requests, _container_ids(processes), processes, policy, glance=glance)
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
    *,
    glance: bool,
) -> list[_Answer]:
    """Every engine's answer, the chosen one's first; asked side by side.

    Loading the SDK is slow, so that does not count.
    """
    limit = policy.docker_timeout_seconds
    inquiries = [
        _Inquiry(endpoint, limit, requests, ids, glance=glance)
        for endpoint in engines.endpoints(processes)
    ]
    if len(inquiries) == 1 and is_local(inquiries[0].endpoint):
        inquiries[0].ask()  # keeps its own deadline
    else:
        _ask_side_by_side(inquiries, limit)
    return [inquiry.answer(chosen=number == 0) for number, inquiry in enumerate(inquiries)]


def _ask_side_by_side(inquiries: Sequence[_Inquiry], limit_seconds: float) -> None:
    """Each in a thread of its own, for as long as all of them together may take.

    What comes too late is dropped: the threads do not keep the process alive.
    """
    import threading  # noqa: PLC0415 - mostly there is one engine

    deadline = time.monotonic() + limit_seconds
    if not all(is_local(inquiry.endpoint) for inquiry in inquiries):
        deadline += load_sdk()
    threads = [
        threading.Thread(target=each.ask, name=f"engine {each.endpoint}", daemon=True)
        for each in inquiries
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


class _Inquiry:
    """One engine that is asked, and what it said so far."""

    def __init__(
        self,
        endpoint: str,
        limit_seconds: float,
        requests: Sequence[PortRequest] | None,
        ids: frozenset[str],
        *,
        glance: bool,
    ) -> None:
        self.endpoint = endpoint
        self._glance = glance
        self._limit = limit_seconds
        self._requests = requests
        self._ids = ids
        self._over = False
        self._containers: tuple[Container, ...] | None = None
        self._error: EngineError | None = None

    def ask(self) -> None:
        """Asks, and keeps the answer or the error."""
        from resolver.gather.containers import list_containers  # noqa: PLC0415 - no engine, no need

        client = engines.client(self.endpoint)
        try:
            self._containers = list_containers(
                self.endpoint,
                self._limit,
                self._requests,
                self._ids,
                client,
                glance=self._glance,
            )
        except EngineError as error:
            self._error = error
        finally:
            self._over = True

    def answer(self, *, chosen: bool) -> _Answer:
        """What was said so far; to be called once, when the deadline is over."""
        state = EngineState(self.endpoint, chosen=chosen, client=engines.client(self.endpoint))
        if not self._over:
            trouble = f"{self.endpoint} did not answer in {self._limit:g} s"
            return _Answer(replace(state, trouble=trouble))
        if self._error is None and self._containers is None:  # it broke: silence is no answer
            return _Answer(replace(state, trouble=f"{self.endpoint} could not be asked"))
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
