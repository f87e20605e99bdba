"""Another user's program that passes for an engine: what it is asked, it writes down.

It serves files as answers (`FOLDER/json.json` for the list of containers, `FOLDER/ID.json` for
one), without end where it was told so. It may hold ports besides, and call itself as it likes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socketserver
import threading
import time
from pathlib import Path

from tests.lab.servers.answering import write
from tests.lab.servers.common import Endpoint, answer, bound, hold_signals, next_signal, ready

HEAD = b"HTTP/1.1 %s\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\n"


class Engine(socketserver.ThreadingUnixStreamServer):
    """Serves the answers of a folder."""

    daemon_threads = True
    folder = Path()
    endless = b""
    slow = 0.0


class Handler(socketserver.StreamRequestHandler):
    """One connection; it may bring several requests."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while line := self.rfile.readline():
                while self.rfile.readline().strip():
                    pass
                self._take(line.decode().strip())

    def _take(self, question: str) -> None:
        assert isinstance(self.server, Engine)
        with (self.server.folder / "asked").open("a", encoding="utf-8") as asked:
            asked.write(question + "\n")
        time.sleep(self.server.slow)
        method, target, *_ = question.split()
        name = target.rpartition("containers/")[2].removesuffix("/json")
        file = self.server.folder / f"{name.replace('/', '_').partition('?')[0]}.json"
        if target.endswith("/_ping"):
            self._say(b"200 OK", b"OK")
        elif method != "GET":
            self._say(b"204 No Content", b"")
        elif self.server.endless and target.partition("?")[0].endswith("/containers/json"):
            self._say_for_ever(self.server.endless)
        elif file.exists():
            self._say(b"200 OK", file.read_bytes())
        else:
            self._say(b"404 Not Found", b'{"message": "no such container"}')

    def _say(self, status: bytes, body: bytes) -> None:
        self.wfile.write(HEAD % status + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    def _say_for_ever(self, text: bytes) -> None:
        self.wfile.write(HEAD % b"200 OK" + b"\r\n[")
        while True:
            self.wfile.write(text * (1 << 16))


def main() -> None:
    options = _options()
    if options.name:
        write("/proc/self/comm", options.name)
    hold_signals()
    path = options.host.removeprefix("unix://")
    with Engine(path, Handler) as engine:
        Path(path).chmod(0o666)
        engine.folder, engine.slow = options.folder, options.slow
        engine.endless = options.endless.encode()
        threading.Thread(target=engine.serve_forever, daemon=True).start()
        for port in options.port:
            answer(bound(Endpoint("tcp", options.address, port)))
        ready()
        next_signal(None, "impostor")
        os._exit(0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("-H", dest="host", required=True, help="unix://PATH, as dockerd has it")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--name", help="the process name to take")
    parser.add_argument("--port", type=int, action="append", default=[])
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--endless", default="", help="what the list of containers never stops at")
    parser.add_argument("--slow", type=float, default=0.0, help="seconds before each answer")
    return parser.parse_args()


if __name__ == "__main__":
    main()
