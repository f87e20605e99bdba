"""The containers of a compose project, from the engine that compose talks to; read-only.

Through the Docker SDK, with containers that do not run. Nothing here judges.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from resolver.errors import EngineError, StateChangedError
from resolver.host.engine_client import EngineClient
from resolver.json_text import convert
from resolver.model import Binding, EngineState, PortNumber, Transport
from resolver.model.compose_labels import ONE_OFF, PROJECT, SERVICE, WORKING_DIR

if TYPE_CHECKING:
    from collections.abc import Iterator


RUNNING = "running"


class PortMapping(Struct, frozen=True, order=True):
    """A container's own port, and where the engine publishes it."""

    target: int
    outer: Binding


class ComposeContainer(Struct, frozen=True):
    """One container of a project, running or not.

    `pid` is that of its first process as the engine sees it; 0 where it does not run. `one_off`
    marks what `docker compose run` started, which `up` leaves alone.
    """

    id: str
    name: str
    service: str
    working_dir: str = ""
    one_off: bool = False
    state: str = ""
    exit_code: int = 0
    pid: int = 0
    published: tuple[PortMapping, ...] = ()


class _State(Struct, rename="pascal"):
    status: str
    exit_code: int
    pid: int


class _Settings(Struct, rename="pascal"):
    labels: dict[str, str] | None = None


class _Outer(Struct, rename="pascal"):
    host_ip: str
    host_port: str


class _Network(Struct, rename="pascal"):
    ports: dict[str, list[_Outer] | None] | None = None


class _Inspection(Struct, rename="pascal"):
    """What is used of ContainerInspect (Engine API 1.41)."""

    id: str
    name: str
    config: _Settings
    state: _State
    network_settings: _Network


def members(
    project: str, engine: EngineState, timeout_seconds: float
) -> tuple[ComposeContainer, ...]:
    """Every container of the project, sorted by name; empty where it has none.

    Args:
        project: its name.
        engine: the one that compose talks to.
        timeout_seconds: for each question to the engine.

    Raises:
        EngineError: the engine did not answer in time, or not as one would, or is not to be asked.
    """
    if engine.error:
        raise EngineError(engine.error)
    found = []
    with EngineClient(engine.endpoint, timeout_seconds, engine.uid) as client:
        for row in client.labelled(f"{PROJECT}={project}"):
            with suppress(StateChangedError):  # it went away in between
                found.append(described(client.inspect(str(row.get("Id")))))
    return tuple(sorted(found, key=lambda each: (each.name, each.id)))


def described(answer: dict[str, Any]) -> ComposeContainer:
    """A container as the engine inspected it.

    Raises:
        EngineError: that is nothing that an engine says.
    """
    try:
        found = convert(answer, _Inspection)
        published = sorted(_mappings(found.network_settings.ports or {}))
    except (msgspec.ValidationError, ValueError) as error:
        raise EngineError(f"the engine describes a container as none does: {error}") from error
    labels, state = found.config.labels or {}, found.state
    return ComposeContainer(
        id=found.id,
        name=found.name.removeprefix("/"),
        service=labels.get(SERVICE, ""),
        working_dir=labels.get(WORKING_DIR, ""),
        one_off=labels.get(ONE_OFF, "").lower() == "true",
        state=state.status,
        exit_code=state.exit_code,
        pid=state.pid,
        published=tuple(published),
    )


def _mappings(ports: dict[str, list[_Outer] | None]) -> Iterator[PortMapping]:
    """`{"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}`."""
    for inner, outers in ports.items():
        target, _, transport = inner.partition("/")
        for outer in outers or () if transport in list(Transport) else ():
            port = PortNumber(int(outer.host_port))
            yield PortMapping(int(target), Binding(Transport(transport), outer.host_ip, port))
