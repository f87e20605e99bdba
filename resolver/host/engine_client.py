"""A container engine, through the Docker SDK's low-level client; errors translated.

That client makes one request for a list, where the high-level one inspects each container. Loading
it takes longer than everything else that a command does, so that is left until an engine is asked.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self, TypeGuard, TypeVar

from msgspec import DecodeError
from msgspec.json import decode

from resolver.errors import EngineAbsentError, EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from docker.types.daemon import CancellableStream

    from resolver.host.engine_sdk import BoundedClient

    _T = TypeVar("_T")

_UNIX = "unix://"
_LONGEST_EVENT = 1 << 20  # bytes
_ID = r"[0-9a-f]{64}\Z"


def is_container_id(text: object) -> TypeGuard[str]:
    """Whether it is a container's whole id: 64 hexadecimal digits (Engine API, `Id`)."""
    return isinstance(text, str) and re.match(_ID, text) is not None


def socket_path(endpoint: str) -> str | None:
    """Where a unix endpoint's socket is; None for any other."""
    return endpoint.removeprefix(_UNIX) if endpoint.startswith(_UNIX) else None


def is_there(endpoint: str) -> bool:
    """Whether there may be an engine: at a unix endpoint there has to be a file."""
    path = socket_path(endpoint)
    return path is None or os.path.lexists(path)


def load_sdk() -> float:
    """Loads the SDK, which is slow; returns how many seconds that took."""
    begun = time.monotonic()
    _sdk()
    return time.monotonic() - begun


def _sdk() -> ModuleType:
    """What is made of the SDK, loaded where an engine is asked."""
    from resolver.host import engine_sdk

    return engine_sdk


class EngineClient:
    """One engine; every call is one request with a deadline of its own.

    Args:
        endpoint: `unix://…`, `tcp://…`, `ssh://…` or `npipe://…`.
        timeout_seconds: for each request.
        uid: the user that has to listen at a unix socket; None for whoever does.

    Every call raises:
        EngineAbsentError: there is nothing at the endpoint.
        EngineNotPermittedError: this user may not connect.
        EngineError: it does not answer, or not as an engine would; or it is somebody else's.
    """

    def __init__(self, endpoint: str, timeout_seconds: float, uid: int | None = None) -> None:
        self.endpoint = endpoint
        self._timeout = timeout_seconds
        self._uid = uid
        self._connection: BoundedClient | None = None  # where one is needed
        self._stream: CancellableStream[Any] | None = None

    @property
    def _api(self) -> BoundedClient:
        if self._connection is None:
            self._connection = _sdk().BoundedClient(self.endpoint, self._timeout, self._uid)
        return self._connection

    def containers(self) -> list[dict[str, Any]]:
        """`GET /containers/json`: running, paused and restarting containers."""
        return self._ask(lambda: _expect(list, self._api.containers()))

    def labelled(self, label: str) -> list[dict[str, Any]]:
        """`GET /containers/json` of one label (`NAME=VALUE`), with containers that do not run."""
        return self._ask(
            lambda: _expect(list, self._api.containers(all=True, filters={"label": [label]}))
        )

    def inspect(self, container_id: str) -> dict[str, Any]:
        """`GET /containers/ID/json`.

        Raises:
            StateChangedError: there is no such container any more.
        """
        self._check(container_id)
        return self._ask(lambda: _expect(dict, self._api.inspect_container(container_id)))

    def identity(self) -> str:
        """The engine's own id, of `GET /info`, which stays the same when it is started again."""
        found = self._ask(lambda: _expect(dict, self._api.info())).get("ID")
        if not isinstance(found, str) or not found:
            raise EngineError(f"{self.endpoint} does not say which engine it is")
        return found

    def _check(self, container_id: str) -> None:
        """Sees to it that an id leads nowhere else when it is part of a path.

        Raises:
            EngineError: it is no id.
        """
        if not is_container_id(container_id):
            raise EngineError(f"{self.endpoint}: {container_id[:64]!a} is no container's id")

    def stop(self, container_id: str, seconds: int) -> None:
        """`POST /containers/ID/stop`: its stop signal, and SIGKILL after `seconds`.

        A negative time means never (`docker run --stop-timeout -1`): then there is no deadline.

        Raises:
            StateChangedError: there is no such container any more.
        """
        self._check(container_id)

        def stop() -> None:
            if seconds < 0:
                self._api.timeout = None  # type: ignore[assignment] # types-docker: it may be None
            self._api.stop(container_id, timeout=seconds)

        self._ask(stop, seconds)

    def exit_status(self, container_id: str) -> int | None:
        """What its main process ended with (`State.ExitCode`); None where the engine does not say.

        Raises:
            StateChangedError: there is no such container any more.
        """
        state = self.inspect(container_id).get("State")
        found = state.get("ExitCode") if isinstance(state, dict) else None
        return found if isinstance(found, int) else None

    def unpause(self, container_id: str) -> None:
        """`POST /containers/ID/unpause`."""
        self._check(container_id)
        self._ask(lambda: self._api.unpause(container_id))

    def events(self, filters: dict[str, list[str]]) -> Iterator[dict[str, Any]]:
        """`GET /events`: as they come, until `close()`; an empty one when the engine listens.

        There is no deadline; an event is at most 1 MiB long, and what is none is left out.
        """
        stream: CancellableStream[Any] = self._ask(lambda: self._api.events(filters=filters))
        self._stream = stream
        yield {}
        rest = b""
        while (chunk := self._ask(lambda: next(stream, None))) is not None:
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _LONGEST_EVENT:
                raise EngineError(f"{self.endpoint} does not answer as an engine")
            for line in lines:
                with suppress(DecodeError, RecursionError):
                    yield decode(line, type=dict[str, Any])

    def close(self) -> None:
        """Ends the connection, and the stream of events that another thread may read."""
        if self._stream is not None:
            self._stream.close()
        if self._connection is not None:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, ask: Callable[[], _T], extra_seconds: float = 0) -> _T:
        """What `ask` returns, with the SDK's errors as ours; where nothing is, it is not loaded."""
        if self._connection is None and not is_there(self.endpoint):
            raise EngineAbsentError(f"there is no engine at {self.endpoint.removeprefix(_UNIX)}")
        try:
            return ask()
        except _sdk().FAILURES as error:
            limit = self._timeout + extra_seconds
            raise _sdk().translated(error, self.endpoint, limit) from error


def _expect(kind: type[_T], answer: object) -> _T:
    if not isinstance(answer, kind):
        raise TypeError(f"{kind.__name__} expected")
    return answer
