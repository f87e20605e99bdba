"""The Docker SDK's low-level client, with bounds: to whom it talks, and how much it listens to.

For every kind of endpoint. The SDK reads answers as long as they come, decompresses them, and
follows redirections; its time limit is for each read. None of that is for an engine that may be
another user's, or anybody's on the network. Loading it is slow: import this where it is needed.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, TypeVar

from docker.api.client import APIClient
from docker.errors import APIError, DockerException, NotFound
from docker.tls import TLSConfig
from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnection, UnixHTTPConnectionPool
from docker.utils import kwargs_from_env
from docker.utils.config import find_config_file
from requests.exceptions import ReadTimeout, Timeout
from urllib3 import disable_warnings
from urllib3.exceptions import InsecureRequestWarning

from resolver.errors import EngineError, StateChangedError, UltraPortsError
from resolver.host.docker_config import CommandLineEngine, command_line_engine, is_ours, is_plain
from resolver.host.engine_socket import LARGEST, check_size, connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests
    from requests.adapters import BaseAdapter

_T = TypeVar("_T")
_BLOCK = 1 << 14
_LONGEST_CHUNK = 1 << 20  # bytes
_LONGEST_MESSAGE = 300  # characters of what an engine says
# What the SDK raises, and what it makes of an answer that no engine gives
FAILURES = (
    DockerException,
    *(OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError),
)


def translated(error: Exception, endpoint: str, limit_seconds: float) -> UltraPortsError:
    """One of `FAILURES` as ours; never by the words of a message."""
    if isinstance(error, NotFound):
        return StateChangedError("the container is gone")
    if isinstance(error, APIError):
        said = error.explanation if isinstance(error.explanation, str) else ""
        return EngineError(f"{endpoint}: {(said or str(error))[:_LONGEST_MESSAGE]}")
    if found := _cause(error, EngineError):
        return found
    if _cause(error, Timeout) or _cause(error, TimeoutError):
        return EngineError(f"{endpoint} did not answer in {limit_seconds:g} s")
    return EngineError(f"{endpoint} does not answer as an engine")


def _cause(error: BaseException | None, kind: type[_T]) -> _T | None:
    """The first of a kind among an error and its causes."""
    while error is not None:
        if isinstance(error, kind):
            return error
        error = error.__cause__ or error.__context__
    return None


def _tls_of(endpoint: str) -> TLSConfig | bool:
    """As docker's command line has it for DOCKER_HOST, and for a context; False for none.

    Raises:
        EngineError: a stranger made one of the context's files.
    """
    if endpoint == os.environ.get("DOCKER_HOST"):
        found: TLSConfig | bool = kwargs_from_env().get("tls", False)
        return found
    chosen = command_line_engine()
    return _tls_of_context(chosen) if chosen.tls_folder and endpoint == chosen.endpoint else False


def _tls_of_context(chosen: CommandLineEngine) -> TLSConfig | bool:
    """What is in a context's folder (cli/context/tlsdata.go of docker/cli), all of it optional.

    The SDK's own `Context` takes no certificate at all unless there are three.
    """
    paths = [f"{chosen.tls_folder}/{name}.pem" for name in ("ca", "cert", "key")]
    found = [path if os.path.lexists(path) else "" for path in paths]
    for path in filter(None, found):
        if not is_ours(path):
            raise EngineError(f"{path} is no file of this user's or root's")
    if not (any(found) or chosen.skip_verify):
        return False
    authority, certificate, key = found
    pair = (certificate, key) if certificate or key else None
    return TLSConfig(pair, authority, not chosen.skip_verify)


class BoundedClient(APIClient):
    """`docker.APIClient` for requests that are answered once, and for the stream of events.

    What does not fit into the bounds raises ValueError, and what takes longer than the request's
    timeout `ReadTimeout`, or what `requests` raises where a connection fails.

    Args:
        endpoint: `unix://…`, `tcp://…`, `ssh://…` or `npipe://…`.
        timeout_seconds: for each request; over a unix socket, for the whole answer.
        uid: the user that has to listen at a unix socket; None for whoever does.

    Raises:
        EngineError: Docker's configuration file cannot be read to its end, or the engine, or a
            proxy before it, does not say which version it speaks.
    """

    def __init__(self, endpoint: str, timeout_seconds: float, uid: int | None = None) -> None:
        self._uid = uid
        self._endpoint = endpoint
        self._config: dict[str, Any] = {}
        path = str(find_config_file() or "")
        if path and not is_plain(path):  # the SDK would open it, whatever it is
            raise EngineError(f"{path} is no regular file of at most 1 MiB")
        self._believes = is_ours(path)
        tls = _tls_of(endpoint)
        if isinstance(tls, TLSConfig) and not tls.verify:  # as whoever chose the engine wants it
            disable_warnings(InsecureRequestWarning)
        super().__init__(
            base_url=endpoint,
            version="auto",
            timeout=timeout_seconds,  # type: ignore[arg-type] # types-docker: fractions are taken too
            tls=tls,
            use_ssh_client=endpoint.startswith("ssh://"),
        )

    def _retrieve_server_version(self) -> str:
        """The version of the API that the engine speaks, as Docker's own command line learns it.

        A header of `GET /_ping` says so. For the SDK's own `GET /version` an engine runs programs.
        """
        pong = self._get(f"{self.base_url}/_ping")  # type: ignore[attr-defined] # not in types-docker
        version: str = pong.headers.get("Api-Version", "")
        if not version and not pong.ok:
            answer = f"answers GET /_ping with status {pong.status_code}"
            raise EngineError(f"{self._endpoint} {answer}: no engine, or a proxy that forbids it")
        if not version:
            raise ValueError("this is no engine")
        return version

    @property
    def _general_configs(self) -> dict[str, Any]:
        """What the SDK has read of Docker's configuration, if its author is this user or root."""
        return self._config

    @_general_configs.setter
    def _general_configs(self, found: object) -> None:
        self._config = found if isinstance(found, dict) and self._believes else {}

    def mount(self, prefix: str | bytes, adapter: BaseAdapter) -> None:
        """As for any session; a unix socket's connections are ours."""
        if isinstance(adapter, UnixHTTPAdapter):
            adapter = _Adapter(f"http+unix://{adapter.socket_path}", adapter.timeout)
            adapter.uid = self._uid
        super().mount(prefix, adapter)

    def merge_environment_settings(
        self,
        url: str | bytes | None,
        proxies: Any,  # noqa: ANN401 - as requests.Session has it
        stream: bool | None,  # noqa: FBT001
        verify: Any,  # noqa: ANN401
        cert: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """As for any session; but REQUESTS_CA_BUNDLE does not take the place of an engine's own."""
        verify = self.verify if verify is None else verify
        return super().merge_environment_settings(url, proxies, stream, verify, cert)

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Nowhere: an engine redirects nobody, and what claims to be one may lead us anywhere."""

    def send(
        self,
        request: requests.PreparedRequest,
        **kwargs: Any,  # noqa: ANN401 - as requests.Session has it
    ) -> requests.Response:
        """Sends one request, and reads the whole of its answer, if that is no stream.

        Raises:
            ValueError: the answer is longer than any engine's, or compressed.
            RequestException: it did not come, or not in time.
        """
        limit = kwargs.get("timeout")
        deadline = time.monotonic() + limit if isinstance(limit, (int, float)) else None
        request.headers["Accept-Encoding"] = "identity"
        if kwargs.get("stream"):
            return super().send(request, **kwargs)
        response = super().send(request, **(kwargs | {"stream": True}))
        try:
            response._content = _body(response, deadline)  # noqa: SLF001 - what `requests` would set
            response.encoding = "utf-8"  # guessing at it takes longer than anything else
        finally:
            response.close()
        return response

    def _stream_helper(self, response: Any, decode: bool = False) -> Iterator[Any]:  # noqa: ANN401, FBT001, FBT002
        """The chunks of a stream as the SDK has them, each of a bounded size.

        Raises:
            ValueError: there is a longer one, or this is no stream.
        """
        del decode  # a line is `EngineClient.events`' business
        raw = response.raw
        if not raw._fp.chunked:  # noqa: SLF001 - as the SDK does
            raise ValueError("this is no stream")
        while data := raw.read(1):  # which waits for the next chunk
            left = raw._fp.chunk_left or 0  # noqa: SLF001
            if left > _LONGEST_CHUNK:
                raise ValueError("the answer is too long")
            yield data + raw.read(left)


def _body(response: requests.Response, deadline: float | None) -> bytes:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise ValueError("the answer is compressed")
    body = bytearray()
    for block in response.iter_content(_BLOCK):
        body += block
        if len(body) > LARGEST:
            raise ValueError("the answer is too long")
        if deadline is not None and time.monotonic() > deadline:
            raise ReadTimeout("the answer takes too long")
    whole = bytes(body)
    check_size(whole)
    return whole


class _BoundedConnection(UnixHTTPConnection):
    """A connection whose listener is looked at before anything is sent."""

    uid: int | None = None

    def connect(self) -> None:
        """Connects within the connection's timeout.

        Raises:
            EngineError: there is no engine, or somebody else's.
        """
        self.sock = connect(self.unix_socket, self.timeout, self.uid)


class _Pool(UnixHTTPConnectionPool):
    uid: int | None = None

    def _new_conn(self) -> _BoundedConnection:  # type: ignore[override] # as types-docker has it
        connection = _BoundedConnection(self.base_url, self.socket_path)
        connection.uid = self.uid
        return connection


class _Adapter(UnixHTTPAdapter):
    uid: int | None = None

    def get_connection(self, url: bytes | str, proxies: object = None) -> _Pool:  # noqa: ARG002
        """As the SDK's, with connections of ours; each request brings its own timeout."""
        with self.pools.lock:
            pool: _Pool | None = self.pools.get(url)
            if pool is None:
                pool = _Pool(str(url), self.socket_path, self.timeout)
                pool.uid = self.uid
                self.pools[url] = pool
        return pool
