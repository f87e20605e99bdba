"""A container engine: read over its unix socket, changed through the Docker SDK; errors translated.

The SDK is slow to load, so reading a local engine does without it. Its low-level client makes one
request for a list, where the high-level one inspects each container.
"""

from __future__ import annotations

import json
import os
import re
import time
from typing import TYPE_CHECKING, Any, Self, TypeGuard, TypeVar

from resolver.errors import EngineError, StateChangedError
from resolver.host.engine_http import get
from resolver.host.engine_sdk import BoundedClient

if TYPE_CHECKING:
    from collections.abc import Callable

    _T = TypeVar("_T")

_UNIX = "unix://"
_OK, _NOT_FOUND = 200, 404
_ID = re.compile(r"[0-9a-f]{64}\Z")
_LONGEST_MESSAGE = 300  # characters of what an engine says
# What decoding, or the SDK, makes of an answer that no engine gives
_NONSENSE = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)


def is_container_id(text: object) -> TypeGuard[str]:
    """Whether it is a container's whole id: 64 hexadecimal digits (Engine API, `Id`)."""
    return isinstance(text, str) and _ID.match(text) is not None


def is_local(endpoint: str) -> bool:
    """Whether the endpoint is a unix socket, which is read without the SDK."""
    return endpoint.startswith(_UNIX)


def load_sdk() -> float:
    """Loads the SDK, which is slow; returns how many seconds that took."""
    begun = time.monotonic()
    import docker  # noqa: F401

    return time.monotonic() - begun


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

    @property
    def _api(self) -> BoundedClient:
        if self._connection is None:
            self._connection = _connect(self.endpoint, self._timeout, self._uid)
        return self._connection

    def containers(self) -> list[dict[str, Any]]:
        """`GET /containers/json`: running, paused and restarting containers."""
        answer: list[dict[str, Any]]
        if is_local(self.endpoint):
            answer = self._get("/containers/json", list)
        else:
            answer = self._by_sdk(lambda: _expect(list, self._api.containers()))
        return answer

    def inspect(self, container_id: str) -> dict[str, Any]:
        """`GET /containers/ID/json`.

        Raises:
            StateChangedError: there is no such container any more.
        """
        answer: dict[str, Any]
        self._check(container_id)
        if is_local(self.endpoint):
            answer = self._get(f"/containers/{container_id}/json", dict)
        else:
            answer = self._by_sdk(lambda: _expect(dict, self._api.inspect_container(container_id)))
        return answer

    def identity(self) -> str:
        """The engine's own id, of `GET /info`, which stays the same when it is started again."""
        answer: dict[str, Any]
        if is_local(self.endpoint):
            answer = self._get("/info", dict)
        else:
            answer = self._by_sdk(lambda: _expect(dict, self._api.info()))
        found = answer.get("ID")
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

    def _get(self, target: str, kind: type) -> Any:  # noqa: ANN401 - JSON
        path = self.endpoint.removeprefix(_UNIX)
        status, body = get(path, target, self._timeout, self._uid)
        if status == _NOT_FOUND and kind is dict:
            raise StateChangedError("the container is gone")
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise EngineError(f"{self.endpoint} does not answer as an engine") from error
        if status != _OK:
            said = answer.get("message") if isinstance(answer, dict) else None
            raise self._refusal(said, f"status {status}")
        if not isinstance(answer, kind):
            raise EngineError(f"{self.endpoint} does not answer as an engine")
        return answer

    def _refusal(self, said: object, otherwise: str) -> EngineError:
        """What an engine says that will not, cut where it is too long for a message."""
        text = said if isinstance(said, str) and said else otherwise
        return EngineError(f"{self.endpoint}: {text[:_LONGEST_MESSAGE]}")

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

        self._by_sdk(stop, seconds)

    def unpause(self, container_id: str) -> None:
        """`POST /containers/ID/unpause`."""
        self._check(container_id)
        self._by_sdk(lambda: self._api.unpause(container_id))

    def close(self) -> None:
        """Ends the connection, where there is one."""
        if self._connection is not None:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _by_sdk(self, ask: Callable[[], _T], extra_seconds: float = 0) -> _T:
        """What `ask` returns, with the SDK's errors as ours; never by the words of a message."""
        import docker.errors
        import requests.exceptions

        limit = self._timeout + extra_seconds
        try:
            return ask()
        except docker.errors.NotFound as error:
            raise StateChangedError("the container is gone") from error
        except docker.errors.APIError as error:
            raise self._refusal(error.explanation, str(error)) from error
        except (docker.errors.DockerException, RecursionError, *_NONSENSE) as error:
            if found := _cause(error, EngineError):
                raise found from error
            if _cause(error, requests.exceptions.Timeout) or _cause(error, TimeoutError):
                raise EngineError(f"{self.endpoint} did not answer in {limit:g} s") from error
            raise EngineError(f"{self.endpoint} does not answer as an engine") from error


def _connect(endpoint: str, timeout_seconds: float, uid: int | None) -> BoundedClient:
    from docker.utils import kwargs_from_env

    settings: dict[str, Any] = {"base_url": endpoint}
    if endpoint == os.environ.get("DOCKER_HOST"):
        settings |= kwargs_from_env()
    return BoundedClient(
        settings["base_url"],
        timeout_seconds,
        uid,
        tls=settings.get("tls", False),
        use_ssh_client=endpoint.startswith("ssh://"),
    )


def _cause(error: BaseException | None, kind: type[_T]) -> _T | None:
    """The first of a kind among an error and its causes."""
    while error is not None:
        if isinstance(error, kind):
            return error
        error = error.__cause__ or error.__context__
    return None


def _expect(kind: type, answer: Any) -> Any:  # noqa: ANN401 - JSON
    if not isinstance(answer, kind):
        raise TypeError(f"{kind.__name__} expected")
    return answer
