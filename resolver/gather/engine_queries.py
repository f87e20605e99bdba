"""Asks every engine at once, each within its deadline, and tells whether its ports are ours."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from resolver.errors import EngineAbsentError, EngineError, EngineNotPermittedError, UltraPortsError
from resolver.gather.containers import list_containers
from resolver.gather.engine_choice import Inquiry, inquiry, patience_seconds
from resolver.gather.engines import known_engines
from resolver.gather.namespaces import elsewhere
from resolver.gather.redirects import UNREAD, Nat
from resolver.host.background import begin
from resolver.host.engine_client import is_there, load_sdk, socket_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from resolver.model import Container, EngineState, Policy, PortRequest, Process, Socket


class _EngineAnswer(Struct, frozen=True):
    """What one engine said."""

    engine: EngineState
    containers: tuple[Container, ...] = ()


def ask_engines(
    requests: Sequence[PortRequest] | None,
    processes: Sequence[Process],
    sockets: tuple[Socket, ...],
    policy: Policy,
    nat: Nat = UNREAD,
) -> tuple[tuple[Container, ...], tuple[EngineState, ...]]:
    """The containers that publish a requested port or run one of the processes, and how it went.

    Our own container is among them, where an engine knows it. Both are empty where no engine is to
    be asked. The whole takes `docker_timeout_seconds` and a little, and what an engine did not say
    by then is in its `error`. Of an engine that was merely found, and whose ports are not ours,
    no containers are told: they are in nobody's way here.
    """
    if not policy.use_docker:
        return (), ()
    known = known_engines(processes)
    limit = patience_seconds(known, requests, sockets, processes, nat, policy)
    if not limit:
        return (), tuple(replace(each, asked=False) for each in known)
    inquiries = [inquiry(each, requests, processes, sockets) for each in known]
    told = _distinct([_located(each, sockets, requests) for each in _ask(inquiries, limit)])
    containers = [
        container
        for each in told
        if each.engine.chosen or not each.engine.elsewhere
        for container in each.containers
    ]
    return tuple(containers), tuple(each.engine for each in told)


def _located(
    answer: _EngineAnswer, sockets: Sequence[Socket], requests: Sequence[PortRequest] | None
) -> _EngineAnswer:
    if answer.engine.error is not None:
        return answer
    away = elsewhere(answer.engine.endpoint, answer.containers, sockets, requests)
    return replace(answer, engine=replace(answer.engine, elsewhere=away))


def _distinct(told: list[_EngineAnswer]) -> list[_EngineAnswer]:
    """Each engine once: two endpoints that tell of the same container are one engine's.

    The first stays; where either path leads to ports that are ours, they are. Another user's engine
    may say what it likes, and is only ever itself.
    """
    found: list[_EngineAnswer] = []
    for answer in told:
        known = next((each for each in found if _is_same(each, answer)), None)
        if known is None:
            found.append(answer)
        elif known.engine.elsewhere and not answer.engine.elsewhere:
            near = replace(known.engine, elsewhere=None)
            found[found.index(known)] = replace(known, engine=near)
    return found


def _is_same(one: _EngineAnswer, other: _EngineAnswer) -> bool:
    if one.engine.foreign or other.engine.foreign:
        return False
    return not {each.id for each in one.containers}.isdisjoint(each.id for each in other.containers)


def _ask(inquiries: Sequence[Inquiry], limit_seconds: float) -> list[_EngineAnswer]:
    """Every engine's answer, the chosen one's first.

    Each that is there is asked in a thread of its own, for as long as all of them together may
    take: the SDK's own limit is for each read. What comes too late is dropped. Loading the SDK is
    slow, so that does not count.
    """
    there = [each for each in inquiries if is_there(each.engine.endpoint)]
    asked = [each for each in there if each.engine.error is None]
    deadline = time.monotonic() + limit_seconds + (load_sdk() if asked else 0)
    calls = {
        each.engine.endpoint: begin(
            f"engine {each.engine.endpoint}",
            partial(list_containers, each.engine, limit_seconds, each.requests, each.ids),
        )
        for each in asked
    }
    return [_answer(each.engine, calls, limit_seconds, deadline) for each in inquiries]


def _answer(
    state: EngineState,
    calls: dict[str, Future[tuple[Container, ...]]],
    limit_seconds: float,
    deadline: float,
) -> _EngineAnswer:
    """What an engine says until the deadline, unless its `error` tells why it is not asked."""
    endpoint = state.endpoint
    if state.error is not None:
        return _EngineAnswer(state)
    if endpoint not in calls:
        why = f"there is no engine at {socket_path(endpoint)}"
        return _EngineAnswer(replace(state, error=why, absent=True))
    try:
        left = max(0.0, deadline - time.monotonic())
        return _EngineAnswer(state, calls[endpoint].result(left))
    except TimeoutError:
        state = replace(state, error=f"{endpoint} did not answer in {limit_seconds:g} s")
    except EngineError as error:
        nobody = not state.chosen and isinstance(error.__cause__, ConnectionRefusedError)
        state = replace(
            state,
            error=str(error),
            absent=nobody or isinstance(error, EngineAbsentError),
            forbidden=isinstance(error, EngineNotPermittedError),
        )
    except UltraPortsError:  # it broke: silence is no answer
        state = replace(state, error=f"{endpoint} could not be asked")
    return _EngineAnswer(state)
