"""A server that has closed its listener, and still has a connection that it once accepted."""

from __future__ import annotations

import os
import socket

from tests.lab.servers.common import Endpoint, begun, bound, next_signal, ready


def main() -> None:
    options = begun()
    server = bound(Endpoint("tcp", "127.0.0.1", options.port))
    client = socket.create_connection(("127.0.0.1", options.port))
    accepted, peer = server.accept()
    server.close()
    ready(peer=peer[1])
    next_signal(options.log, "server")
    accepted.close()
    client.close()
    os._exit(0)


if __name__ == "__main__":
    main()
