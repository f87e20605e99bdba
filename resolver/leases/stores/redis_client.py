"""The connection to Redis: deadlines, clusters, and what went wrong in words without a password."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from redis import Redis, RedisCluster, exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from resolver.errors import StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEADLINE_SECONDS = 2.0  # for a connection, and for each answer
_KEEPS = "noeviction"
_NO_URL = "ULTRA_PORTS_STORE is no URL of a Redis: redis://host:6379/0"
_UNKNOWN = (
    "whether the ports are reserved now is not known: the same command again is safe, and "
    "otherwise their time runs out"
)
_LOST = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
_FAILED = (exceptions.RedisError, exceptions.RedisClusterException, ValueError, AttributeError)
_OPTIONS: dict[str, Any] = {
    "socket_connect_timeout": DEADLINE_SECONDS,
    "socket_timeout": DEADLINE_SECONDS,
    "decode_responses": True,
    "encoding_errors": "surrogateescape",
    "protocol": 2,
}


class Connection:
    """One Redis or one cluster, by its URL; nothing is connected before it is asked."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._examined = False
        self._client: Any  # its commands have no types
        try:  # what a lost answer means is decided by the caller: nothing is sent twice
            self._client = Redis.from_url(url, retry=Retry(NoBackoff(), 0), **_OPTIONS)
        except (ValueError, TypeError) as error:  # its own text may quote the password
            raise UsageError(_NO_URL) from error
        scheme, _, rest = url.partition("?")[0].partition("://")
        self.address = f"{scheme}://{rest.rpartition('@')[2]}"
        if self.address.endswith("/"):
            raise UsageError(_NO_URL)

    @contextmanager
    def asked(self) -> Iterator[Any]:
        """The client of redis-py; its failures are told as a StoreError without a password."""
        if not self._examined:
            self._examine()
        try:
            yield self._client
        except _LOST as error:  # it was sent, and perhaps carried out
            raise StoreError(f"{self._message(error)}; {_UNKNOWN}") from error
        except _FAILED as error:
            raise StoreError(self._message(error)) from error

    def close(self) -> None:
        """Closes every connection."""
        self._client.close()

    def _examine(self) -> None:
        """Connects, and refuses a Redis that might forget a lease or tell an old tale."""
        try:
            self._client.ping()
            nodes = [self._client.info()]
            if nodes[0].get("cluster_enabled"):
                self.close()
                self._client = RedisCluster.from_url(self._url, **_OPTIONS)
                nodes = list(self._client.info(target_nodes=RedisCluster.PRIMARIES).values())
        except exceptions.NoPermissionError:  # a replica still refuses to write
            nodes = []
        except (*_LOST, *_FAILED) as error:
            raise StoreError(self._message(error)) from error
        for facts in nodes:
            if facts.get("role") == "slave":
                raise StoreError(f"{self.address} is a replica: reservations need the primary")
            if facts.get("maxmemory") and (policy := facts.get("maxmemory_policy")) != _KEEPS:
                raise StoreError(
                    f"{self.address} may forget a lease when memory is short (maxmemory-policy "
                    f"{policy}), and a port would be reserved twice",
                    f"redis-cli config set maxmemory-policy {_KEEPS}",
                )
        self._examined = True

    def _message(self, error: Exception) -> str:
        """One line, without which command of ours it was."""
        if isinstance(error, exceptions.TimeoutError | TimeoutError):
            return f"{self.address} does not answer within {DEADLINE_SECONDS:g} s"
        text = str(error).rpartition("caused error: ")[2].partition(" script: ")[0]
        return f"{self.address}: {' '.join(text.split()).rstrip('.') or type(error).__name__}"
