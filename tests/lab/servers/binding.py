"""Binds its port plainly and lets go, again and again; ends as soon as it is refused."""

from __future__ import annotations

import os
import signal
import socket
import threading

from tests.lab.servers.common import begun, next_signal, ready


def main() -> None:
    options = begun()
    threading.Thread(target=_bind, args=(options.port,), daemon=True).start()
    ready()
    next_signal(options.log, "server")
    os._exit(0)


def _bind(port: int) -> None:
    try:
        while True:
            with socket.socket() as server:
                server.bind(("0.0.0.0", port))
    except OSError:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
