"""Containers and their port mappings, from an engine, as frozen values.

An engine may be another user's, or none at all: what has not the form that the Engine API gives is
no answer, and nothing of it is used.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct, ValidationError, field
from msgspec.structs import replace

from resolver.errors import EngineError, StateChangedError
from resolver.gather.engines import own_container_id
from resolver.host.engine_client import EngineClient
from resolver.json_text import convert
from resolver.model import ANY_IPV4, ANY_IPV6, Binding, Container, PortNumber, Transport, meets_any
from resolver.model.compose_labels import PREFIX, PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from resolver.model import EngineState, PortRequest

_MALFORMED = (ValidationError, ValueError, OSError, RecursionError)
_LONGEST_STOP_SECONDS = 1_000_000  # what a socket can still wait for; over eleven days

Text = Annotated[str, Meta(max_length=4096)]
ContainerId = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
PortField = Annotated[int, Meta(ge=0, le=65535)]


class ListedPort(Struct, frozen=True, rename="pascal"):
    """An entry of `Ports`: one for each host address."""

    ip: Text | None = field(name="IP", default=None)
    private_port: PortField = 0
    public_port: PortField | None = None
    type: Text = "tcp"


class RestartPolicy(Struct, frozen=True, rename="pascal"):
    """When the engine starts a container again."""

    name: Text | None = None
    maximum_retry_count: int | None = None

    def __str__(self) -> str:
        count = f":{self.maximum_retry_count}" if self.maximum_retry_count else ""
        return f"{self.name or 'no'}{count}"


class HostBinding(Struct, frozen=True, rename="pascal"):
    """What a container takes when it starts."""

    host_ip: Text | None = None
    host_port: Text | None = None


class HostConfig(Struct, frozen=True, rename="pascal"):
    """What a container was made with, on the engine's side."""

    network_mode: Text | None = None
    restart_policy: RestartPolicy | None = None
    auto_remove: bool | None = None
    port_bindings: dict[Text, tuple[HostBinding | None, ...] | None] | None = None


class ContainerConfig(Struct, frozen=True, rename="pascal"):
    """The rest of what it was made with."""

    labels: dict[Text, Text] | None = None
    stop_timeout: int | None = None


class ContainerState(Struct, frozen=True, rename="pascal"):
    """Its processes, as the engine numbers them; conmon is podman's."""

    pid: int | None = None
    conmon_pid: int | None = None
    exit_code: int | None = None


class Details(Struct, frozen=True, rename="pascal"):
    """`GET /containers/ID/json`, and `podman inspect`."""

    host_config: HostConfig | None = None
    config: ContainerConfig | None = None
    state: ContainerState | None = None


class ListedContainer(Struct, frozen=True, rename="pascal"):
    """An entry of `GET /containers/json`."""

    id: ContainerId
    names: tuple[Text, ...] | None = None
    image: Text | None = None
    state: Text | None = None
    ports: tuple[ListedPort, ...] | None = None
    labels: dict[Text, Text] | None = None
    host_config: HostConfig | None = None

    @property
    def name(self) -> str:
        """The container's own name; links add names with a further slash."""
        names = [name.removeprefix("/") for name in self.names or ()]
        return next((name for name in names if name and "/" not in name), self.id[:12])

    @property
    def project(self) -> str:
        """Its compose project; empty where it is of none."""
        return (self.labels or {}).get(PROJECT, "")

    @property
    def network_mode(self) -> str:
        """Whose network it is in."""
        return (self.host_config and self.host_config.network_mode) or ""

    def published(self) -> dict[Binding, int]:
        """Where it is published, and its own port behind each."""
        return {
            binding: port.private_port
            for port in self.ports or ()
            if port.public_port
            for binding in bindings_of(port.ip or "", PortNumber(port.public_port), port.type)
        }


def list_containers(
    engine: EngineState,
    timeout_seconds: float,
    requests: Collection[PortRequest] | None,
    ids: Collection[str] = (),
) -> tuple[Container, ...]:
    """The containers that publish a requested port, or whose id is in `ids`, sorted by name.

    One request lists all, and one more is made for each container in the answer, and for each that
    is between two restarts, when the list does not show its ports. Our own container is always in
    the answer, if this engine runs it; another user's engine does not.

    Raises:
        EngineError: the engine did not answer in time, or not as an engine would.
    """
    own = None if engine.foreign else own_container_id()

    def matching(client: EngineClient) -> Iterator[Container]:
        rows = convert(client.containers(), list[ListedContainer])
        return _matching(client, rows, requests, ids, own)

    found = _answered(engine, timeout_seconds, matching)
    return tuple(_of(engine, container) for container in found)


def project_containers(
    project: str, engine: EngineState, timeout_seconds: float
) -> tuple[Container, ...]:
    """Every container of a compose project, running or not, sorted by name.

    Args:
        project: its name.
        engine: the one that compose talks to.
        timeout_seconds: for each question to the engine.

    Raises:
        EngineError: the engine did not answer in time, or not as one would, or is not to be asked.
    """

    def inspected(client: EngineClient) -> Iterator[Container]:
        rows = convert(client.labelled(f"{PROJECT}={project}"), list[ListedContainer])
        for row in rows:
            with suppress(StateChangedError):  # it went away in between
                details = convert(client.inspect(row.id), Details)
                yield container_of(engine.endpoint, row, details, rows)

    return _answered(engine, timeout_seconds, inspected)


def _answered(
    engine: EngineState,
    timeout_seconds: float,
    ask: Callable[[EngineClient], Iterable[Container]],
) -> tuple[Container, ...]:
    """What an engine answers, sorted by name.

    Raises:
        EngineError: it did not answer in time, or not as an engine would.
    """
    if engine.error is not None:
        raise EngineError(engine.error)
    with EngineClient(engine.endpoint, timeout_seconds, engine.uid) as client:
        try:
            return tuple(sorted(ask(client), key=lambda found: (found.name, found.id)))
        except _MALFORMED as error:  # half an answer would make the rest look as if it was absent
            raise EngineError(f"{engine.endpoint} answers with what no engine says") from error


def _of(engine: EngineState, container: Container) -> Container:
    """A container with what is known of its engine.

    Labels say to whom a container belongs: a compose project of ours, a pod that an orchestrator
    scales. Another user's engine does not say that; where it was chosen, its projects are meant.
    """
    labels = container.labels
    if engine.foreign:
        kept = PREFIX if engine.chosen else ()
        labels = tuple(each for each in labels if each[0].startswith(kept))
    return replace(
        container, client=engine.client, uid=engine.uid, foreign=engine.foreign, labels=labels
    )


def _matching(
    engine: EngineClient,
    rows: list[ListedContainer],
    requests: Collection[PortRequest] | None,
    ids: Collection[str],
    own: str | None,
) -> Iterator[Container]:
    for row in rows:
        wanted = _wanted(row.published(), requests)
        if row.id == own and not wanted:
            yield container_of(engine.endpoint, row, Details(), rows)  # its labels are all we want
        elif wanted or row.state == "restarting" or row.id in ids:
            try:
                details = convert(engine.inspect(row.id), Details)
            except StateChangedError:  # it went away in between
                continue
            container = container_of(engine.endpoint, row, details, rows)
            if container.id in ids or _wanted(container.published, requests):
                yield container


def _wanted(bindings: Iterable[Binding], requests: Collection[PortRequest] | None) -> bool:
    return any(meets_any(requests, binding) for binding in bindings)


def container_of(
    endpoint: str, row: ListedContainer, details: Details, rows: Iterable[ListedContainer]
) -> Container:
    """One container from its row in the list, its inspection, and all rows (for those that share).

    Raises:
        ValueError: a port is none.
        OSError: an address is none.
    """
    published = row.published()
    if row.state == "restarting":
        published |= _configured(details.host_config or HostConfig())
    bindings = sorted(published)
    mode = f"container:{row.id}"
    labels = (details.config and details.config.labels) or row.labels or {}
    made = Container(
        id=row.id,
        name=row.name,
        engine=endpoint,
        image=row.image or "",
        state=row.state or "",
        published=tuple(bindings),
        targets=tuple(published[each] for each in bindings),
        labels=tuple(sorted(labels.items())),
        network_mode=row.network_mode,
        sharing=tuple(sorted(each.name for each in rows if each.network_mode == mode)),
        beside=tuple(sorted(each.name for each in rows if _is_beside(each, row))),
    )
    return with_details(made, details)


def with_details(container: Container, details: Details) -> Container:
    """A container with what an inspection says of it, but for its labels and its ports."""
    host, state = details.host_config or HostConfig(), details.state or ContainerState()
    seconds = details.config.stop_timeout if details.config else None
    if seconds is None:
        seconds = container.stop_timeout_seconds
    return replace(
        container,
        network_mode=host.network_mode or container.network_mode,
        restart_policy=str(host.restart_policy or RestartPolicy()),
        auto_remove=bool(host.auto_remove),
        stop_timeout_seconds=max(-1, min(seconds, _LONGEST_STOP_SECONDS)),  # -1: never
        main_pid=state.pid or 0,
        conmon_pid=state.conmon_pid or 0,
        exit_code=state.exit_code or 0,
    )


def _is_beside(other: ListedContainer, row: ListedContainer) -> bool:
    """Whether it is another running container of the same compose project."""
    ours = bool(row.project) and other.project == row.project
    return ours and other.id != row.id and other.state == "running"


def _configured(host: HostConfig) -> dict[Binding, int]:
    """What the container takes when it starts, and its own ports behind it; fixed ports only."""
    found: dict[Binding, int] = {}
    for inner, outers in (host.port_bindings or {}).items():
        number, _, transport = inner.rpartition("/")
        target = int(number) if number.isdecimal() else 0
        for outer in filter(None, outers or ()):
            wanted = outer.host_port or ""
            if wanted.isdecimal() and int(wanted):
                port = PortNumber(convert(int(wanted), PortField))
                bindings = bindings_of(outer.host_ip or "", port, transport)
                found |= dict.fromkeys(bindings, target)
    return found


def bindings_of(address: str, port: PortNumber, transport: str) -> Iterator[Binding]:
    """The bindings of a published port: of both families where no address is given."""
    if transport not in list(Transport):  # sctp
        return
    for each in [address] if address else [ANY_IPV4, ANY_IPV6]:
        yield Binding(Transport(transport), _canonical(each), port)


def _canonical(address: str) -> str:
    address = address.partition("%")[0]  # a zone says where, not what
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_ntop(family, socket.inet_pton(family, address))
