"""A stand-in for an engine that dies in the middle of a run: only its death is what is tested.

It answers as an engine without containers does (Engine API v1.41: `/_ping`, `/containers/json`,
`/containers/ID/json`), until it is told to die: at once, or half-way through its next answer.
"""

from __future__ import annotations

import contextlib
import json
import socket
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = (
    b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n"
)


class DyingEngine:
    """An engine at a unix socket."""

    def __init__(self, listener: socket.socket, path: Path) -> None:
        self.host = f"unix://{path}"
        self._listener = listener
        self._open: list[socket.socket] = []
        self._cuts = False
        self._threads: list[threading.Thread] = []
        self._thread(self._accept)

    def dies(self, *, in_answer: bool) -> None:
        """Now, or in the middle of its next answer."""
        if in_answer:
            self._cuts = True
            return
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def join(self) -> None:
        """Returns when nothing of it runs any more."""
        self.dies(in_answer=False)
        for thread in self._threads:
            thread.join(10.0)
            assert not thread.is_alive()

    def _thread(self, target: object, *arguments: object) -> None:
        assert callable(target)
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            self._thread(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError), connection.makefile("rb") as requests:
            while line := requests.readline():
                while requests.readline().strip():
                    pass
                body = json.dumps(_answer(line.split()[1].decode())).encode()
                whole = HEAD % len(body) + body
                if self._cuts:
                    connection.sendall(whole[: len(whole) // 2])
                    self.dies(in_answer=False)
                    return
                connection.sendall(whole)


def _answer(path: str) -> object:
    return "OK" if path.endswith("/_ping") else []


@contextlib.contextmanager
def dying_engine() -> Iterator[DyingEngine]:
    """An engine that is well, for now."""
    with tempfile.TemporaryDirectory(prefix="lab") as directory:
        path = Path(directory) / "docker.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(16)
            path.parent.chmod(0o755)
            path.chmod(0o666)
            engine = DyingEngine(listener, path)
            try:
                yield engine
            finally:
                engine.join()


@contextlib.contextmanager
def cut_short(engine: Path, length: int) -> Iterator[str]:
    """Another way to a real engine; it dies when so many bytes of answers have come through."""
    with tempfile.TemporaryDirectory(prefix="lab") as directory:
        path = Path(directory) / "docker.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(16)
            proxy = _Proxy(listener, engine, length)
            try:
                yield f"unix://{path}"
            finally:
                proxy.join()


class _Proxy:
    """Copies bytes both ways, until it has had enough."""

    def __init__(self, listener: socket.socket, engine: Path, length: int) -> None:
        self._sockets = [listener]
        self._engine = engine
        self._left = length
        self._threads: list[threading.Thread] = []
        self._start(self._accept, listener)

    def _start(self, target: object, *arguments: object) -> None:
        assert callable(target)
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.socket(socket.AF_UNIX)
                self._sockets += [near, far]
                far.connect(str(self._engine))
                self._start(self._copy, near, far, 0)
                self._start(self._copy, far, near, 1)

    def _copy(self, source: socket.socket, target: socket.socket, cost: int) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                kept = data[: self._left] if cost else data
                self._left -= len(data) * cost
                target.sendall(kept)
                if self._left <= 0:
                    self._die()
            target.shutdown(socket.SHUT_WR)

    def _die(self) -> None:
        for each in list(self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def join(self) -> None:
        """Returns when nothing of it runs any more."""
        self._die()
        for thread in list(self._threads):
            thread.join(10.0)
            assert not thread.is_alive()
        for each in self._sockets:
            each.close()
