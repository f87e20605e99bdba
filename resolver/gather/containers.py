"""Containers and their port mappings, from an engine, as frozen values.

An engine may be another user's, or none at all: what has not the form that the Engine API gives is
no answer, and nothing of it is used.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from resolver.errors import EngineError, StateChangedError
from resolver.gather.engines import own_container_id
from resolver.host.engine_client import EngineClient, is_container_id
from resolver.model import ANY_IPV4, ANY_IPV6, Binding, Container, PortNumber, Transport
from resolver.model.compose_labels import PREFIX, PROJECT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from resolver.model import EngineState, PortRequest


_MALFORMED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError)
_LONGEST = 4096  # characters of a name, an image, a state
_LARGEST_PORT = 65535
_LONGEST_STOP_SECONDS = 1_000_000  # what a socket can still wait for; over eleven days


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
    if engine.error is not None:
        raise EngineError(engine.error)
    with EngineClient(engine.endpoint, timeout_seconds, engine.uid) as client:
        own = None if engine.foreign else own_container_id()
        rows = client.containers()
        try:
            _check_rows(rows)
            found = list(_matching(client, rows, requests, ids, own))
        except (
            _MALFORMED
        ) as error:  # half an answer would make the rest look as if it were not there
            raise EngineError(f"{engine.endpoint} answers with what no engine says") from error
    found.sort(key=lambda container: (container.name, container.id))
    return tuple(_of(engine, container) for container in found)


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


def _check_rows(rows: Iterable[object]) -> None:
    """Sees to it that each entry of `GET /containers/json` is one of a container.

    Raises:
        TypeError: it is no object.
        ValueError: it has no id that an engine gives.
    """
    for row in rows:
        if not isinstance(row, dict):
            raise TypeError("a container is an object")
        if not is_container_id(row.get("Id")):
            raise ValueError("a container's id has 64 hexadecimal digits")


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
    return Container(
        id=_text(row["Id"]),
        name=_name(row),
        engine=endpoint,
        image=_text(row.get("Image")),
        state=_text(row.get("State")),
        published=tuple(sorted(published)),
        labels=tuple(sorted(_labels(settings.get("Labels") or row.get("Labels") or {}))),
        network_mode=_text((host or row.get("HostConfig") or {}).get("NetworkMode")),
        restart_policy=_restart_policy(host.get("RestartPolicy") or {}),
        auto_remove=host.get("AutoRemove") is True,
        stop_timeout_seconds=_stop_timeout(settings.get("StopTimeout")),
        sharing=tuple(sorted(_sharing(row["Id"], rows))),
        beside=tuple(sorted(_beside(row, rows))),
        main_pid=_number((details.get("State") or {}).get("Pid") or 0),
    )


def _text(found: object) -> str:
    """What has to be a text, of a length that somebody could want; empty where it is null.

    Raises:
        TypeError: it is none.
        ValueError: it is longer.
    """
    if found is None:
        return ""
    if not isinstance(found, str):
        raise TypeError("a text was expected")
    if len(found) > _LONGEST:
        raise ValueError("a text is too long")
    return found


def _number(found: object) -> int:
    """What has to be a whole number.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(found, int) or isinstance(found, bool):
        raise TypeError("a whole number was expected")
    return found


def _port(found: object) -> PortNumber:
    number = _number(found)
    if not 0 < number <= _LARGEST_PORT:
        raise ValueError("a port was expected")
    return PortNumber(number)


def _labels(found: dict[object, object]) -> Iterator[tuple[str, str]]:
    for name, label in found.items():
        if not (isinstance(name, str) and isinstance(label, str)):
            raise TypeError("a label is a text")
        yield name, label


def _stop_timeout(found: object) -> int:
    """Seconds; any negative number means never."""
    return 10 if found is None else max(-1, min(_number(found), _LONGEST_STOP_SECONDS))


def _name(row: dict[str, Any]) -> str:
    """The container's own name; links add names with a further slash."""
    names = [_text(name).removeprefix("/") for name in row.get("Names") or ()]
    return next((name for name in names if name and "/" not in name), _text(row["Id"])[:12])


def _sharing(container_id: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    mode = f"container:{container_id}"
    for row in rows:
        if (row.get("HostConfig") or {}).get("NetworkMode") == mode:
            yield _name(row)


def _beside(row: dict[str, Any], rows: list[dict[str, Any]]) -> Iterator[str]:
    """The other running containers of its compose project."""
    project = _project(row)
    for each in rows:
        is_other = each["Id"] != row["Id"] and each.get("State") == "running"
        if project and is_other and _project(each) == project:
            yield _name(each)


def _project(row: dict[str, Any]) -> str:
    return _text((row.get("Labels") or {}).get(PROJECT))


def _restart_policy(policy: dict[str, Any]) -> str:
    name = _text(policy.get("Name")) or "no"
    count = _number(policy.get("MaximumRetryCount") or 0)
    return f"{name}:{count}" if count else name


def _listed_bindings(row: dict[str, Any]) -> Iterator[Binding]:
    """`Ports` of `GET /containers/json`: one entry for each host address."""
    for port in row.get("Ports") or ():
        if public := port.get("PublicPort"):
            address, transport = _text(port.get("IP")), _text(port.get("Type", "tcp"))
            yield from bindings_of(address, _port(public), transport)


def _configured_bindings(host: dict[str, Any]) -> Iterator[Binding]:
    """`HostConfig.PortBindings`: what the container takes when it starts; fixed ports only."""
    for inner, outers in (host.get("PortBindings") or {}).items():
        for outer in filter(None, outers or ()):
            wanted = _text(outer.get("HostPort"))
            if wanted.isdecimal() and int(wanted):
                transport = inner.rpartition("/")[2]
                yield from bindings_of(_text(outer.get("HostIp")), _port(int(wanted)), transport)


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
