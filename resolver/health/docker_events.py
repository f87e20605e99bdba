"""What engines publish, kept up to date by their own events: at rest nobody is asked anything.

An engine without a userland proxy forwards ports in the packet filter, and no socket shows that.
`GET /events` (Engine API) tells of each start and end, and nothing otherwise. Docker tells of an
end before its list of containers shows it, and of a start afterwards.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from queue import Queue
from typing import TYPE_CHECKING, Any

from msgspec import Struct, ValidationError

from resolver.errors import UltraPortsError
from resolver.gather import engines
from resolver.gather.engine_queries import ask_engines
from resolver.health.signatures import Serving
from resolver.host.engine_client import EngineClient, is_container_id, socket_path
from resolver.json_text import convert

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resolver.health.signatures import Matcher, Signature
    from resolver.model import Policy, PortRequest, Socket

_FILTERS = {"type": ["container"], "event": ["start", "die", "died"]}  # died: Podman's word
_AGAIN_SECONDS = 5.0  # until an engine that is not there, or cannot tell, is looked at once more
_CONNECT_SECONDS = 1.0
_MOST_EVENTS = 10_000  # that wait for a look; then the engine waits too
_RUNNING = {"running", "paused"}


class _Actor(Struct, frozen=True, rename={"id": "ID"}):
    id: str


class _DockerEvent(Struct, frozen=True, rename="pascal"):
    """Of an engine's (Engine API, `EventMessage`)."""

    action: str
    actor: _Actor


class ContainerRuns:
    """How often containers were started, by their ids, and which have ended.

    `ended` are those that have not started since, whatever a list says.
    """

    def __init__(self) -> None:
        self.starts: dict[str, int] = {}
        self.ended: set[str] = set()

    def take(self, message: object) -> None:
        """Counts a start or an end; what makes no sense is left out."""
        try:
            event = convert(message, _DockerEvent)
        except ValidationError:
            return
        if not is_container_id(event.actor.id):
            return
        if event.action == "start":
            self.starts[event.actor.id] = self.starts.get(event.actor.id, 0) + 1
            self.ended.discard(event.actor.id)
        else:
            self.ended.add(event.actor.id)

    def forget(self, known: set[str]) -> None:
        """Keeps what is about these containers."""
        self.starts = {name: count for name, count in self.starts.items() if name in known}
        self.ended &= known


class _EventListener:
    """Listens to one engine in a thread of its own, which ends with the process at the latest.

    `heard` gets every event, and None whenever some may have been missed.
    """

    def __init__(self, endpoint: str, uid: int | None, heard: Queue[Any]) -> None:
        self._engine = EngineClient(endpoint, _CONNECT_SECONDS, uid)
        self._heard = heard
        self._ended = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        """Hangs up."""
        self._ended.set()
        self._engine.close()

    def _listen(self) -> None:
        while not self._ended.is_set():
            with suppress(UltraPortsError):
                for event in self._engine.events(_FILTERS):
                    self._heard.put(event or None)
                    if self._ended.is_set():
                        return
                self._heard.put(None)
            self._ended.wait(_AGAIN_SECONDS)


class PublishedPorts:
    """Which containers publish which of the watched ports, as signatures."""

    def __init__(self, policy: Policy, matcher: Matcher) -> None:
        self.errors: tuple[str, ...] = ()
        self._policy = policy
        self._matcher = matcher
        self._runs = ContainerRuns()
        self._heard: Queue[Any] = Queue(_MOST_EVENTS)
        self._listeners: dict[str, _EventListener] = {}
        self._found: dict[PortRequest, Signature] = {}
        self._asked = False
        self._next_search = 0.0

    @property
    def starts(self) -> dict[str, int]:
        """How often each container was seen to start, by its id."""
        return self._runs.starts

    def look(self, sockets: tuple[Socket, ...]) -> tuple[Mapping[PortRequest, Signature], bool]:
        """What is published now, and whether an engine was asked for it just now."""
        if not self._policy.use_docker:
            return {}, False
        stale = self._search() or not self._asked or not self._heard.empty()
        while not self._heard.empty():
            event = self._heard.get()
            if event is None:
                self._runs.ended.clear()  # starts may have been missed
            else:
                self._runs.take(event)
        if stale:
            self._asked = True
            self._ask(sockets)
        return self._found, stale

    def close(self) -> None:
        """Ends every connection."""
        for listener in self._listeners.values():
            listener.close()

    def _search(self) -> bool:
        """Looks for engines now and then; True where one has no events that we can read."""
        if time.monotonic() < self._next_search:
            return False
        self._next_search = time.monotonic() + _AGAIN_SECONDS
        found = [
            each for each in engines.known_engines() if not (each.error or each.foreign)
        ]  # another user's engine explains sockets alone, which are seen without it
        for each in found:
            if socket_path(each.endpoint) and each.endpoint not in self._listeners:
                self._listeners[each.endpoint] = _EventListener(
                    each.endpoint, each.uid, self._heard
                )
        return not all(socket_path(each.endpoint) for each in found)

    def _ask(self, sockets: tuple[Socket, ...]) -> None:
        containers, asked = ask_engines(self._matcher.requests, (), sockets, self._policy)
        self.errors = tuple(each.error for each in asked if each.error and each.silent)
        if self.errors:
            return
        self._found = self._matcher.sort(
            Serving(binding, (container.id, self.starts.get(container.id, 0)))
            for container in containers
            if container.state in _RUNNING
            and not container.foreign
            and container.id not in self._runs.ended
            for binding in container.published
        )
        self._runs.forget({container.id for container in containers})
