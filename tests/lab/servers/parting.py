"""A server that has closed its listener, and still has a connection that it once accepted."""

from __future__ import annotations

import argparse
import os
import socket

from tests.lab.servers.common import Endpoint, bound, hold_signals, next_signal, ready


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--log")
    options = parser.parse_args()
    hold_signals()
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
