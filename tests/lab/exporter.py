"""A running `ultra-ports serve`, and a bare client that says exactly what a test wants to say."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from tests.lab import contracts
from tests.lab.cli import COMMAND
from tests.lab.processes import READY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping


class Response(NamedTuple):
    """What came back; nothing at all is the status 0."""

    status: int
    fields: dict[str, str]
    text: str


class Serving:
    """`ultra-ports serve ARGUMENTS` on a port of its own; a context manager that ends it.

    SIGINT has its default action there, even where the test run itself was started with `&`.
    """

    def __init__(
        self, *arguments: str, listen: str = "127.0.0.1:0", env: Mapping[str, str] | None = None
    ) -> None:
        self._errors = Path(os.environ["ULTRA_PORTS_STATE"]).parent / f"{os.urandom(4).hex()}.err"
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with self._errors.open("wb") as errors:
                self.popen = subprocess.Popen(
                    [COMMAND, "serve", "--no-docker", "--listen", listen, *arguments],
                    env={**os.environ, **(env or {})},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                )
        finally:
            signal.signal(signal.SIGINT, before)
        assert self.popen.stdout is not None
        self.url = self.popen.stdout.readline().strip()  # when it is ready, or has ended
        self.port = int(self.url.rstrip("/").rpartition(":")[2] or 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self.popen:
            self.popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(2.0)  # by itself, so that what it did is measured
            self.popen.kill()
        assert "Traceback" not in self.stderr, self.stderr
        assert "internal error" not in self.stderr, self.stderr

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        return self._errors.read_text(encoding="utf-8")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Its exit status."""
        self.popen.send_signal(number)
        return self.popen.wait(READY_SECONDS)

    def connected(self) -> socket.socket:
        """A connection that says nothing yet."""
        return socket.create_connection(("127.0.0.1", self.port), READY_SECONDS)

    def get(self, path: str = "/healthz", method: str = "GET", **fields: str) -> Response:
        """One request; `fields` are added to the head, and `Host` may be replaced."""
        lines = {"Host": f"127.0.0.1:{self.port}", **fields}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return self.say(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode())

    def say(self, sent: bytes) -> Response:
        """What comes back for these bytes until the server hangs up."""
        with self.connected() as client:
            client.sendall(sent)
            return answered(client)

    def health(self, *, token: str = "") -> Any:  # noqa: ANN401 - JSON
        """The envelope."""
        fields = {"Authorization": f"Bearer {token}"} if token else {}
        return contracts.read(self.get(**fields).text)

    @property
    def token(self) -> str:
        """The token that `--make-token` has made."""
        return self.stderr.partition("#token=")[2].split("\n")[0]


def answered(client: socket.socket) -> Response:
    """Reads until the peer hangs up."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while more := client.recv(1 << 16):
            received += more
    head, _, text = received.decode("utf-8").partition("\r\n\r\n")
    first, *rest = head.split("\r\n")
    fields = dict(line.split(": ", 1) for line in rest)
    return Response(int(first.split()[1]) if first else 0, fields, text)
