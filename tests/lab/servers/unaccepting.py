"""A server that listens, and whose queue is full: no more connections are made."""

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
