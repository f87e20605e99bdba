"""A client that stays connected, and outlives its server."""

from __future__ import annotations

import argparse
import os
import socket
import threading

from tests.lab.servers.common import hold_signals, next_signal, ready, record


def main() -> None:
    options = _options()
    hold_signals()
    source = (options.source_address, options.source_port) if options.source_port else None
    connection = socket.create_connection((options.address, options.port), source_address=source)
    connection.sendall(b"who\n")
    ready(server=int(connection.recv(64)))
    threading.Thread(target=_wait_for_eof, args=(connection, options), daemon=True).start()
    next_signal(options.log, "client")
    os._exit(0)


def _wait_for_eof(connection: socket.socket, options: argparse.Namespace) -> None:
    connection.recv(64)
    if not options.keep:
        connection.close()
    record(options.log, "client", "eof")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--source-address", default="127.0.0.1")
    parser.add_argument("--source-port", type=int)
    parser.add_argument("--keep", action="store_true", help="do not close when the server is gone")
    parser.add_argument("--log")
    return parser.parse_args()


if __name__ == "__main__":
    main()
