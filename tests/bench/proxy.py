"""In front of an engine's socket: counts the requests, and how long the engine took for each."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = 1 << 17


class CountingProxy:
    """Serves at `path` what the engine at `engine` answers: one request for each connection.

    `Connection: close` asks for that. The answer is handed on when it is complete, so that
    the engine's own time is known, and is not mixed with the client's.
    """

    def __init__(self, path: Path, engine: Path) -> None:
        self.path = path
        self._engine = engine
        self._server = socket.socket(socket.AF_UNIX)
        self._thread = threading.Thread(target=self._serve)
        self.requests: list[str] = []
        self.engine_seconds = 0.0

    def __enter__(self) -> Self:
        self._server.bind(str(self.path))
        self._server.listen(16)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)  # wakes the thread up
        self._thread.join()
        self._server.close()

    def reset(self) -> tuple[list[str], float]:
        """The requests since the last time, and the engine's seconds; counting begins anew."""
        seen = self.requests, self.engine_seconds
        self.requests, self.engine_seconds = [], 0.0
        return seen

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            with client, contextlib.suppress(OSError):
                self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        question = b""
        while not question.endswith(b"\r\n\r\n"):
            block = client.recv(BLOCK)
            if not block:
                return
            question += block
        question = question.removesuffix(b"\r\n") + b"Connection: close\r\n\r\n"
        self.requests.append(question.split(b"\r\n", 1)[0].decode())
        begun = time.perf_counter()
        answer = self._ask(question)
        self.engine_seconds += time.perf_counter() - begun
        client.sendall(answer)

    def _ask(self, question: bytes) -> bytes:
        answer = b""
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(str(self._engine))
            engine.sendall(question)
            while block := engine.recv(BLOCK):
                answer += block
        return answer
