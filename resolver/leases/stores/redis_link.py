"""The connection to Redis: deadlines, clusters, and what went wrong in words without a password.

Nothing here knows what a lease is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from redis import Redis, exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from resolver.errors import StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

DEADLINE_SECONDS = 2.0  # for a connection, and for each answer
SCHEMES = ("redis", "rediss", "unix")
_REDIRECTS = 3  # of a cluster, for one request; a settled one needs one at most
_NO_EVICTION = "noeviction"


class AnswerLostError(StoreError):
    """A request was sent, and no answer came: it is not known whether it was carried out."""


class Link:
    """One Redis, or the nodes of one cluster, as they are asked for."""

    def __init__(self, url: str) -> None:
        """Checks the URL, and connects to nothing yet.

        Args:
            url: `redis://[user:password@]host:port/db`, `rediss://…` or `unix://PATH?db=0`.

        Raises:
            UsageError: it is no such URL.
        """
        self._url = url
        self.address, self._secrets = _readable(url)
        self._nodes: dict[str, Any] = {}  # its commands have no types
        self._examined: set[str] = set()
        self._node("")  # says now what is wrong with the URL

    def evaluate(self, script: str, keys: Sequence[str], values: Sequence[str]) -> Any:  # noqa: ANN401
        """Runs a script, and returns its answer: text, numbers and lists of these.

        Raises:
            AnswerLostError: it was sent, and no answer came.
            StoreError: it was not carried out.
        """
        return self.command("EVAL", script, str(len(keys)), *keys, *values)

    def command(self, *words: str) -> Any:  # noqa: ANN401 - whatever the command answers
        """Sends one command.

        Raises:
            AnswerLostError: it was sent, and no answer came.
            StoreError: it was not carried out.
        """
        node = ""
        for _ in range(_REDIRECTS):
            try:
                return self._send(node, words)
            except exceptions.MovedError as moved:  # this node of a cluster names the right one
                host = moved.host or urlsplit(self._url).hostname or ""
                node = f"[{host}]:{moved.port}" if ":" in host else f"{host}:{moved.port}"
        raise StoreError(f"{self.address}: the cluster sends from node to node; try again")

    def close(self) -> None:
        """Closes every connection."""
        for client in self._nodes.values():
            client.close()
        self._nodes.clear()

    def _send(self, node: str, words: Sequence[str]) -> Any:  # noqa: ANN401
        client = self._node(node)
        if node not in self._examined:
            self._examine(client)
            self._examined.add(node)
        try:
            return client.execute_command(*words)
        except exceptions.MovedError:
            raise
        except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:
            raise AnswerLostError(self._said(error)) from error
        except (exceptions.RedisError, ValueError) as error:
            raise StoreError(self._said(error)) from error

    def _examine(self, client: Any) -> None:  # noqa: ANN401
        """Connects, and refuses a Redis that might forget a lease or tell an old tale.

        What may not be asked is not known; a replica still refuses to write.
        """
        try:
            client.execute_command("PING")
            facts = client.execute_command("INFO")
        except exceptions.NoPermissionError:
            return
        except (exceptions.RedisError, OSError, ValueError) as error:
            raise StoreError(self._said(error)) from error
        facts = facts if isinstance(facts, dict) else {}
        if facts.get("role") == "slave":
            raise StoreError(f"{self.address} is a replica: reservations need the primary")
        policy = facts.get("maxmemory_policy", _NO_EVICTION)
        if facts.get("maxmemory") and policy != _NO_EVICTION:
            raise StoreError(
                f"{self.address} may forget a lease when memory is short (maxmemory-policy "
                f"{policy}), and a port would be reserved twice",
                f"redis-cli config set maxmemory-policy {_NO_EVICTION}",
            )

    def _node(self, node: str) -> Any:  # noqa: ANN401
        """The client of a cluster's node by its address; "" is the one that the URL names."""
        if node not in self._nodes:
            url = self._url
            if node:
                parts = urlsplit(url)
                user, at, _ = parts.netloc.rpartition("@")
                url = urlunsplit(parts._replace(netloc=f"{user}{at}{node}"))
            self._nodes[node] = self._client(url)
        return self._nodes[node]

    def _client(self, url: str) -> Redis:
        try:
            return Redis.from_url(
                url,
                socket_connect_timeout=DEADLINE_SECONDS,
                socket_timeout=DEADLINE_SECONDS,
                retry=Retry(NoBackoff(), 0),  # what a lost answer means is decided by the caller
                decode_responses=True,
                encoding_errors="surrogateescape",
                protocol=2,
            )
        except (ValueError, TypeError) as error:
            raise UsageError(f"ULTRA_PORTS_STORE: {self._clean(str(error))}") from error

    def _said(self, error: exceptions.RedisError | OSError | ValueError) -> str:
        if isinstance(error, exceptions.TimeoutError | TimeoutError):
            return f"{self.address} does not answer within {DEADLINE_SECONDS:g} s"
        text, _, _ = str(error).partition(" script: ")  # which line of ours it was
        return f"{self.address}: {self._clean(text or type(error).__name__)}"

    def _clean(self, text: str) -> str:
        """One line without a password."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return " ".join(text.split()).rstrip(".")


def _readable(url: str) -> tuple[str, tuple[str, ...]]:
    """The URL without user, password and options, and what must never be printed of it.

    Raises:
        UsageError: it is no URL of a Redis.
    """
    try:
        parts = urlsplit(url)
        secret, port = parts.password or "", parts.port
    except ValueError as error:  # its own text may quote the password
        raise UsageError("ULTRA_PORTS_STORE is no URL of a Redis: redis://host:6379/0") from error
    if parts.scheme not in SCHEMES or not (parts.hostname or parts.path):
        raise UsageError("ULTRA_PORTS_STORE is no URL of a Redis: redis://host:6379/0")
    secrets = {secret, unquote(secret)}
    secrets |= {
        unquote(value)
        for name, _, value in (pair.partition("=") for pair in parts.query.split("&"))
        if "password" in name
    }
    if parts.scheme == "unix":
        return f"unix://{parts.path}", tuple(sorted(secrets - {""}))
    host = parts.hostname or "localhost"
    host = f"[{host}]" if ":" in host else host
    address = f"{parts.scheme}://{host}:{port or 6379}{parts.path.rstrip('/')}"
    return address, tuple(sorted(secrets - {""}))
