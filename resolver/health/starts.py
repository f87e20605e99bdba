"""What engines publish, kept up to date by their own events: at rest nobody is asked anything.

An engine without a userland proxy forwards ports in the packet filter, and no socket shows that.
`GET /events` (Engine API) is a line of JSON for each start and end, and silence otherwise. Docker
tells of an end before its list of containers shows it, and of a start afterwards.
"""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from resolver.errors import EngineError
from resolver.gather import engines
from resolver.gather.asking import ask_engines
from resolver.host.engine_client import is_container_id, is_local
from resolver.host.engine_socket import connect
from resolver.model import PortRequest

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Mapping, Sequence

    from resolver.health.serving import Signature
    from resolver.model import Binding, Policy, Socket

_FILTERS = '{"type":["container"],"event":["start","die","died"]}'  # died: Podman's word
_REQUEST = f"GET /events?filters={quote(_FILTERS)} HTTP/1.0\r\nHost: docker\r\n\r\n".encode()
_AGAIN_SECONDS = 5.0  # until an engine that is not there, or cannot tell, is looked at once more
_CONNECT_SECONDS = 1.0
_LONGEST = 1 << 20  # bytes of a line of an engine's
_RUNNING = {"running", "paused"}


class Told:
    """What the engines have told of containers, by their ids."""

    def __init__(self) -> None:
        self.starts: dict[str, int] = {}
        self.ended: set[str] = set()  # and not started since, whatever a list says

    def take(self, line: bytes) -> None:
        """Counts a start or an end; a line that makes no sense is left out, as are the head's."""
        with contextlib.suppress(ValueError, RecursionError):
            told = json.loads(line)
            actor = told.get("Actor") if isinstance(told, dict) else None
            name = actor.get("ID") if isinstance(actor, dict) else None
            if not is_container_id(name):
                return
            if told.get("Action") == "start":
                self.starts[name] = self.starts.get(name, 0) + 1
                self.ended.discard(name)
            else:
                self.ended.add(name)

    def forget(self, known: set[str]) -> None:
        """Keeps what is about these containers."""
        self.starts = {name: count for name, count in self.starts.items() if name in known}
        self.ended &= known


class Stream:
    """The events of one local engine; `uid` is the user that has to listen there."""

    def __init__(self, endpoint: str, uid: int | None) -> None:
        self._path = endpoint.removeprefix("unix://")
        self._uid = uid
        self._connection: socket.socket | None = None
        self._rest = b""
        self._next_try = 0.0

    def read(self, told: Told) -> bool:
        """Whether anything may have changed since the last call; `told` is told of it."""
        if self._connection is None:
            connected = self._connect()
            if connected:
                told.ended.clear()  # starts may have been missed
            return connected
        changed = False
        while True:
            try:
                block = self._connection.recv(1 << 16)
            except BlockingIOError:
                return changed
            except OSError:
                block = b""
            if not block or len(self._rest) > _LONGEST:
                self.close()
                return True
            changed = True
            *lines, self._rest = (self._rest + block).split(b"\n")
            for line in lines:
                told.take(line)

    def close(self) -> None:
        """Ends the connection; the next read begins another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._rest = b""
        self._next_try = time.monotonic() + _AGAIN_SECONDS

    def _connect(self) -> bool:
        """Whether there is a connection now; what happened before it has to be asked for."""
        if time.monotonic() < self._next_try:
            return False
        try:
            connection = connect(self._path, _CONNECT_SECONDS, self._uid)
        except EngineError:
            self._next_try = time.monotonic() + _AGAIN_SECONDS
            return False
        try:
            connection.sendall(_REQUEST)
        except OSError:
            connection.close()
            self._next_try = time.monotonic() + _AGAIN_SECONDS
            return False
        connection.settimeout(0)
        self._connection = connection
        return True


class Published:
    """Which containers publish which of the watched ports, as signatures."""

    def __init__(self, policy: Policy) -> None:
        self.troubles: tuple[str, ...] = ()
        self._policy = policy
        self._told = Told()
        self._streams: dict[str, Stream] = {}
        self._found: dict[PortRequest, Signature] = {}
        self._next_search = 0.0

    @property
    def starts(self) -> dict[str, int]:
        """How often each container was seen to start, by its id."""
        return self._told.starts

    def look(
        self, requests: Sequence[PortRequest] | None, sockets: tuple[Socket, ...]
    ) -> tuple[Mapping[PortRequest, Signature], bool]:
        """What is published now, and whether an engine was asked for it just now."""
        if not self._policy.use_docker:
            return {}, False
        stale = self._search()
        for stream in self._streams.values():
            stale |= stream.read(self._told)
        if stale:
            self._ask(requests, sockets)
        return self._found, stale

    def close(self) -> None:
        """Ends every connection."""
        for stream in self._streams.values():
            stream.close()

    def _search(self) -> bool:
        """Looks for engines now and then; True where one has no events that we can read."""
        if time.monotonic() < self._next_search:
            return False
        self._next_search = time.monotonic() + _AGAIN_SECONDS
        found = [
            each for each in engines.known_engines() if not (each.trouble or each.foreign)
        ]  # another user's engine explains sockets alone, which are seen without it
        for each in found:
            if is_local(each.endpoint) and each.endpoint not in self._streams:
                self._streams[each.endpoint] = Stream(each.endpoint, each.uid)
        return not all(is_local(each.endpoint) for each in found)

    def _ask(self, requests: Sequence[PortRequest] | None, sockets: tuple[Socket, ...]) -> None:
        containers, asked = ask_engines(requests, (), sockets, self._policy)
        self.troubles = tuple(each.trouble for each in asked if each.trouble and each.silent)
        bindings = [
            (binding, (container.id, self.starts.get(container.id, 0)))
            for container in containers
            if container.state in _RUNNING
            and not container.foreign
            and container.id not in self._told.ended
            for binding in container.published
        ]
        if not self.troubles:
            self._found = _by_request(bindings, requests)
            self._told.forget({container.id for container in containers})


def _by_request(
    bindings: Iterable[tuple[Binding, object]], requests: Sequence[PortRequest] | None
) -> dict[PortRequest, Signature]:
    found: dict[PortRequest, set[tuple[Binding, object]]] = {}
    for binding, token in bindings:
        if requests is None:
            met = [PortRequest(binding.port, binding.transport)]
        else:
            met = [request for request in requests if request.meets(binding)]
        for request in met:
            found.setdefault(request, set()).add((binding, token))
    return {request: frozenset(tokens) for request, tokens in found.items()}
