"""Containers and their port mappings, from an engine, as frozen values."""

from __future__ import annotations

import socket

from resolver.errors import EngineError, StateChangedError
from resolver.gather.engines import own_container_id
from resolver.host.engine_client import EngineClient
from resolver.model import ANY_IPV4, ANY_IPV6, Binding, Container, PortNumber, Transport
from resolver.patterns import pattern
from resolver.values import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from typing import Any

    from resolver.model import PortRequest


_PUBLIC_PORT = pattern(rb'"PublicPort"\s*:\s*"?(\d+)')
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OSError)


def list_containers(
    endpoint: str,
    timeout_seconds: float,
    requests: Collection[PortRequest] | None,
    ids: Collection[str] = (),
    client: tuple[str, ...] = ("docker",),
    *,
    glance: bool = False,
) -> tuple[Container, ...]:
    """The containers that publish a requested port, or whose id is in `ids`, sorted by name.

    One request lists all, and one more is made for each container in the answer, and for each that
    is between two restarts, when the list does not show its ports. Our own container is always in
    the answer, if this engine runs it. `client` begins the commands that reach the engine.
    `glance`: an answer in which none of the ports and ids occurs is not decoded.

    Raises:
        EngineError: the engine did not answer in time, or not as an engine would.
    """
    with EngineClient(endpoint, timeout_seconds) as engine:
        own = own_container_id()
        known = {*ids, own} if own else set(ids)
        rows = engine.containers(
            (lambda text: _concerns(text, requests, known)) if glance else None
        )
        try:
            found = list(_matching(engine, rows, requests, ids, own))
        except (
            _MALFORMED
        ) as error:  # half an answer would make the rest look as if it were not there
            raise EngineError(f"{endpoint} answers with what no engine says") from error
    found.sort(key=lambda container: (container.name, container.id))
    return tuple(replace(container, client=client) for container in found)


def _matching(
    engine: EngineClient,
    rows: list[dict[str, Any]],
    requests: Collection[PortRequest] | None,
    ids: Collection[str],
    own: str | None,
) -> Iterator[Container]:
    for row in rows:
        restarting = row.get("State") == "restarting"
        bindings = tuple(_listed_bindings(row))
        if row["Id"] == own and not _wanted(bindings, requests):
            yield parse_container(engine.endpoint, row, {}, rows)  # its labels are all we want
            continue
        if not (restarting or row["Id"] in ids or _wanted(bindings, requests)):
            continue
        try:
            container = parse_container(engine.endpoint, row, engine.inspect(row["Id"]), rows)
        except StateChangedError:  # it went away in between
            continue
        if container.id in ids or _wanted(container.published, requests):
            yield container


def _concerns(text: bytes, requests: Collection[PortRequest] | None, ids: Collection[str]) -> bool:
    """Whether a list of containers has anything to do with the requests; mostly it has not."""
    if requests is None or b"restarting" in text:
        return True
    if any(each.encode() in text for each in ids):
        return True
    ports = {request.port for request in requests}
    return any(int(port) in ports for port in _PUBLIC_PORT.findall(text))


def _wanted(bindings: Iterable[Binding], requests: Collection[PortRequest] | None) -> bool:
    if requests is None:
        return any(True for _ in bindings)
    return any(request.meets(binding) for binding in bindings for request in requests)


def parse_container(
    endpoint: str, row: dict[str, Any], details: dict[str, Any], rows: list[dict[str, Any]]
) -> Container:
    """One container from its row in the list, its inspection, and all rows (for those that share).

    Args:
        endpoint: the engine's.
        row: an entry of `GET /containers/json`.
        details: `GET /containers/ID/json`.
        rows: all entries.
    """
    host = details.get("HostConfig") or {}
    settings = details.get("Config") or {}
    published = set(_listed_bindings(row))
    if row.get("State") == "restarting":
        published |= set(_configured_bindings(host))
    timeout = settings.get("StopTimeout")
    return Container(
        id=row["Id"],
        name=_name(row),
        engine=endpoint,
        image=str(row.get("Image", "")),
        state=str(row.get("State", "")),
        published=tuple(sorted(published)),
        labels=tuple(sorted((settings.get("Labels") or row.get("Labels") or {}).items())),
        network_mode=str((host or row.get("HostConfig") or {}).get("NetworkMode", "")),
        restart_policy=_restart_policy(host.get("RestartPolicy") or {}),
        auto_remove=bool(host.get("AutoRemove")),
        stop_timeout_seconds=10 if timeout is None else int(timeout),
        sharing=tuple(sorted(_sharing(row["Id"], rows))),
    )


def _name(row: dict[str, Any]) -> str:
    """The container's own name; links add names with a further slash."""
    names = [str(name).removeprefix("/") for name in row.get("Names") or ()]
    return next((name for name in names if "/" not in name), str(row["Id"])[:12])


def _sharing(container_id: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    mode = f"container:{container_id}"
    for row in rows:
        if (row.get("HostConfig") or {}).get("NetworkMode") == mode:
            yield _name(row)


def _restart_policy(policy: dict[str, Any]) -> str:
    name = policy.get("Name") or "no"
    count = policy.get("MaximumRetryCount")
    return f"{name}:{count}" if count else str(name)


def _listed_bindings(row: dict[str, Any]) -> Iterator[Binding]:
    """`Ports` of `GET /containers/json`: one entry for each host address."""
    for port in row.get("Ports") or ():
        if port.get("PublicPort"):
            yield from _bindings(port.get("IP") or "", port["PublicPort"], port.get("Type", "tcp"))


def _configured_bindings(host: dict[str, Any]) -> Iterator[Binding]:
    """`HostConfig.PortBindings`: what the container takes when it starts; fixed ports only."""
    for inner, outers in (host.get("PortBindings") or {}).items():
        for outer in filter(None, outers or ()):
            if str(outer.get("HostPort", "")).isdigit():
                transport = inner.rpartition("/")[2]
                yield from _bindings(outer.get("HostIp") or "", int(outer["HostPort"]), transport)


def _bindings(address: str, port: int, transport: str) -> Iterator[Binding]:
    if transport not in list(Transport) or not port:  # sctp
        return
    for each in [address] if address else [ANY_IPV4, ANY_IPV6]:
        yield Binding(Transport(transport), _canonical(each), PortNumber(port))


def _canonical(address: str) -> str:
    address = address.partition("%")[0]  # a zone says where, not what
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_ntop(family, socket.inet_pton(family, address))
