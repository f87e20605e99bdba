"""Real Redis servers on ports of their own: alone, as replicas, as a cluster, frozen and killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.lab.ports import free_port
from tests.lab.processes import unavailable, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

STOP_SECONDS = 10.0


class Server:
    """One redis-server, without files that outlive it; a context manager that ends it.

    Args:
        options: of redis-server(1), as on its command line.
    """

    def __init__(self, *options: str) -> None:
        server, client = shutil.which("redis-server"), shutil.which("redis-cli")
        if server is None or client is None:
            unavailable("redis-server is missing")
        self._server, self._client = server, client
        self.port = free_port()
        self.options = options
        self._home = tempfile.TemporaryDirectory(prefix="ultra-ports-redis-")
        self.socket = Path(self._home.name) / "redis.sock"
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For ULTRA_PORTS_STORE."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The PID of the server."""
        assert self._popen is not None
        return self._popen.pid

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._home.cleanup()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._home.cleanup()

    def start(self) -> None:
        """Starts it, empty, and returns when it answers."""
        with (Path(self._home.name) / "redis.log").open("ab") as log:
            self._popen = subprocess.Popen(
                [self._server, *self._arguments(), *self.options],
                cwd=self._home.name,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, f"redis-server on port {self.port} answers: {self._log()}")

    def kill(self) -> None:
        """Ends it by SIGKILL, also where it is frozen."""
        if self._popen is not None:
            self._popen.kill()
            self._popen.wait(STOP_SECONDS)

    def freeze(self) -> None:
        """Stops it in its tracks: it accepts connections, and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def cli(self, *words: str, access: Sequence[str] = ()) -> str:
        """What redis-cli(1) prints for a command; `access` are options such as `-a PASSWORD`."""
        return subprocess.run(
            [self._client, "-p", str(self.port), *access, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=STOP_SECONDS,
            check=False,
        ).stdout.strip()

    def _arguments(self) -> list[str]:
        return [
            *("--port", str(self.port), "--bind", "127.0.0.1"),
            *("--unixsocket", str(self.socket), "--dir", self._home.name),
            *("--save", "", "--appendonly", "no", "--daemonize", "no"),
        ]

    def _answers(self) -> bool:
        assert self._popen is not None
        assert self._popen.poll() is None, self._log()
        return any(word in self.cli("ping") for word in ("PONG", "NOAUTH"))

    def _log(self) -> str:
        return (Path(self._home.name) / "redis.log").read_text(encoding="utf-8", errors="replace")


def join(*nodes: Server) -> None:
    """Makes one cluster of servers that were started with `--cluster-enabled yes`."""
    share = -(-16384 // len(nodes))
    for number, node in enumerate(nodes):
        first, last = number * share, min(16383, number * share + share - 1)
        node.cli("cluster", "addslotsrange", str(first), str(last))
        node.cli("cluster", "set-config-epoch", str(number + 1))
    for node in nodes[1:]:
        node.cli("cluster", "meet", "127.0.0.1", str(nodes[0].port))
    for node in nodes:
        wait_until(
            lambda node=node: "cluster_state:ok" in node.cli("cluster", "info"),  # type: ignore[misc]
            f"the node on port {node.port} knows the whole cluster",
        )
