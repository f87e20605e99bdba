"""A server that binds without SO_REUSEADDR, as socketserver.TCPServer does; it logs its starts."""

from __future__ import annotations

import argparse
import os
import socketserver
import sys

from tests.lab.servers.common import answer, hold_signals, next_signal, ready, record


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--leave", action="store_true", help="as soon as it is ready")
    parser.add_argument("--log")
    options = parser.parse_args()
    record(options.log, "server", "start")
    hold_signals()
    address = ("127.0.0.1", options.port)
    try:
        server = socketserver.TCPServer(address, socketserver.BaseRequestHandler)
    except OSError as error:
        sys.exit(str(error))
    answer(server.socket)
    ready()
    if not options.leave:
        next_signal(options.log, "server")
    os._exit(0)


if __name__ == "__main__":
    main()
