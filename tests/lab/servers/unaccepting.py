"""A server that listens, and whose queue is full: no more connections are made."""

from __future__ import annotations

import os
import socket

from tests.lab.servers.common import Endpoint, begun, bound, next_signal, ready


def main() -> None:
    options = begun()
    server = bound(Endpoint("tcp", "127.0.0.1", options.port))
    server.listen(0)
    waiting = [socket.socket() for _ in range(4)]
    for client in waiting:
        client.settimeout(0)
        client.connect_ex(("127.0.0.1", options.port))
    ready()
    next_signal(options.log, "server")
    os._exit(0)


if __name__ == "__main__":
    main()
