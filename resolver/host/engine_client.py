"""A container engine through the Docker SDK's low-level client, with its errors translated.

The low-level client makes one request for a list, where the high-level one inspects each container.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from resolver.errors import (
    EngineAbsentError,
    EngineError,
    EngineNotPermittedError,
    StateChangedError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def load_sdk() -> float:
    """Loads the SDK, which is slow; returns how many seconds that took."""
    begun = time.monotonic()
    import docker  # noqa: F401, PLC0415

    return time.monotonic() - begun


class EngineClient:
    """One engine; every call is one request with a deadline of its own.

    Args:
        endpoint: `unix://…`, `tcp://…`, `ssh://…` or `npipe://…`.
        timeout_seconds: for each request.

    Raises:
        EngineAbsentError: there is nothing at the endpoint.
        EngineNotPermittedError: this user may not connect.
        EngineError: it does not answer, or not as an engine would.
    """

    def __init__(self, endpoint: str, timeout_seconds: float) -> None:
        self.endpoint = endpoint
        self._timeout = timeout_seconds
        with self._translated():
            self._api = _connect(endpoint, timeout_seconds)

    def containers(self) -> list[dict[str, Any]]:
        """`GET /containers/json`: running, paused and restarting containers."""
        with self._translated():
            answer: list[dict[str, Any]] = _expect(list, self._api.containers())
            return answer

    def inspect(self, container_id: str) -> dict[str, Any]:
        """`GET /containers/ID/json`.

        Raises:
            StateChangedError: there is no such container any more.
        """
        with self._translated():
            answer: dict[str, Any] = _expect(dict, self._api.inspect_container(container_id))
            return answer

    def stop(self, container_id: str, seconds: int) -> None:
        """`POST /containers/ID/stop`: its stop signal, and SIGKILL after `seconds`.

        A negative time means never (`docker run --stop-timeout -1`): then there is no deadline.

        Raises:
            StateChangedError: there is no such container any more.
        """
        if seconds < 0:
            self._api.timeout = None
        with self._translated(seconds):
            self._api.stop(container_id, timeout=seconds)

    def unpause(self, container_id: str) -> None:
        """`POST /containers/ID/unpause`."""
        with self._translated():
            self._api.unpause(container_id)

    def close(self) -> None:
        """Ends the connection."""
        self._api.close()

    @contextmanager
    def _translated(self, extra_seconds: float = 0) -> Iterator[None]:
        """The SDK's errors as ours; never by the words of a message."""
        import docker.errors  # noqa: PLC0415 - the SDK is slow to load, and seldom needed
        import requests.exceptions  # noqa: PLC0415

        limit = self._timeout + extra_seconds
        try:
            yield
        except docker.errors.NotFound as error:
            raise StateChangedError("the container is gone") from error
        except docker.errors.APIError as error:
            raise EngineError(f"{self.endpoint}: {error.explanation or error}") from error
        except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
            if _timed_out(error):
                raise EngineError(f"{self.endpoint} did not answer in {limit:g} s") from error
            raise EngineError(f"{self.endpoint} does not answer as an engine") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EngineError(f"{self.endpoint} does not answer as an engine") from error


def _connect(endpoint: str, timeout_seconds: float) -> Any:  # noqa: ANN401 - docker.APIClient
    import docker  # noqa: PLC0415 - slow to load, and seldom needed
    from docker.utils import kwargs_from_env  # noqa: PLC0415

    settings: dict[str, Any] = {"base_url": endpoint}
    if endpoint == os.environ.get("DOCKER_HOST"):
        settings = {**kwargs_from_env()}
    if endpoint.startswith("ssh://"):
        settings["use_ssh_client"] = True
    settings["timeout"] = timeout_seconds
    return docker.APIClient(**settings, version="auto")


def check_socket(endpoint: str, timeout_seconds: float) -> None:
    """Connects once; endpoints that are not unix sockets are left to the SDK.

    Raises:
        EngineAbsentError: there is nothing at the endpoint.
        EngineNotPermittedError: this user may not connect.
        EngineError: nobody listens there.
    """
    if not endpoint.startswith("unix://"):
        return
    path = endpoint.removeprefix("unix://")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(timeout_seconds)
        try:
            probe.connect(path)
        except FileNotFoundError as error:
            raise EngineAbsentError(f"there is no engine at {path}") from error
        except PermissionError as error:
            raise EngineNotPermittedError(
                f"this user may not talk to the engine at {path}"
            ) from error
        except OSError as error:
            raise EngineError(f"no engine answers at {path}: {error}") from error


def _timed_out(error: BaseException | None) -> bool:
    """Whether a timeout is anywhere among the causes."""
    import requests.exceptions  # noqa: PLC0415

    while error is not None:
        if isinstance(error, (requests.exceptions.Timeout, TimeoutError)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _expect(kind: type, answer: Any) -> Any:  # noqa: ANN401 - JSON
    if not isinstance(answer, kind):
        raise TypeError(f"{kind.__name__} expected")
    return answer
