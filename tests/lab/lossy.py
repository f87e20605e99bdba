"""A connection that can be made to lose answers, with a real server behind it."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import Self

from tests.lab.ports import free_port


class Lossy:
    """Forwards a TCP port; `limit` is how many bytes of answers still get through, None: all.

    After that the answers vanish, or the connection ends where `cuts` is true.
    """

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.limit: int | None = None
        self.cuts = False
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._stop, self._told = socket.socketpair()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._told.close()
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector, contextlib.ExitStack() as opened:
            opened.enter_context(self._stop)
            selector.register(self._stop, selectors.EVENT_READ)
            selector.register(self._listener, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._stop:
                        return
                    if key.fileobj is self._listener:
                        client, _ = self._listener.accept()
                        server = socket.create_connection(("127.0.0.1", self._target))
                        opened.enter_context(client)
                        opened.enter_context(server)
                        selector.register(client, selectors.EVENT_READ, (client, server, False))
                        selector.register(server, selectors.EVENT_READ, (server, client, True))
                    else:
                        source, to, answer = key.data
                        self._forward(selector, source, to, answer=answer)

    def _forward(
        self,
        selector: selectors.BaseSelector,
        source: socket.socket,
        to: socket.socket,
        *,
        answer: bool,
    ) -> None:
        try:
            data = source.recv(65_536)
        except OSError:
            data = b""
        lost = False
        if answer and self.limit is not None:
            lost = len(data) > self.limit
            data = data[: self.limit]
            self.limit -= len(data)
        with contextlib.suppress(OSError):
            to.sendall(data)
        if (lost and self.cuts) or not (data or lost):
            selector.unregister(source)
            with contextlib.suppress(OSError):
                to.shutdown(socket.SHUT_RDWR)
