"""A server on one port, on any number of addresses, that ends in one of several ways."""

from __future__ import annotations

import argparse
import ctypes
import os
import socket
import time
from pathlib import Path

from tests.lab.servers.common import Endpoint, answer, bound, hold_signals, next_signal, ready

PR_SET_NAME = 15  # prctl(2)


def main() -> None:
    options = _options()
    if options.name:
        ctypes.CDLL(None).prctl(PR_SET_NAME, options.name.encode(), 0, 0, 0)
    hold_signals()
    sockets = [bound(endpoint) for endpoint in _endpoints(options)]
    for server in () if options.bound else sockets:
        answer(server)
    ready()
    _wait_for_the_end(options, sockets)
    os._exit(0)


def _wait_for_the_end(options: argparse.Namespace, sockets: list[socket.socket]) -> None:
    seconds = None
    while True:
        got = next_signal(options.log, "server", seconds=seconds)
        if got is None or not options.ignore:
            break
        seconds = options.exit_after
        for server in sockets if options.close_on_term else ():
            server.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            server.close()
        sockets = sockets if not options.close_on_term else []
    if options.file:
        time.sleep(options.slow)  # the work that a graceful stop has to finish
        Path(options.file).write_text("all data\n", encoding="utf-8")


def _endpoints(options: argparse.Namespace) -> list[Endpoint]:
    tcp = options.tcp or ([] if options.udp else ["127.0.0.1"])
    wanted = [("tcp", address) for address in tcp] + [("udp", address) for address in options.udp]
    return [
        Endpoint(
            transport,
            address,
            options.port,
            reuseport=options.reuseport,
            dual=options.dual,
            listen=not options.bound,
        )
        for transport, address in wanted
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--tcp", action="append", default=[], metavar="ADDRESS")
    parser.add_argument("--udp", action="append", default=[], metavar="ADDRESS")
    parser.add_argument("--dual", action="store_true", help="[::] takes IPv4 too")
    parser.add_argument("--reuseport", action="store_true")
    parser.add_argument("--bound", action="store_true", help="bind, do not listen")
    parser.add_argument("--ignore", action="store_true", help="SIGTERM changes nothing")
    parser.add_argument("--close-on-term", action="store_true", help="with --ignore")
    parser.add_argument("--slow", type=float, default=0.0, help="seconds a graceful stop takes")
    parser.add_argument("--file", help="what a graceful stop writes")
    parser.add_argument("--exit-after", type=float, help="with --ignore: seconds after a signal")
    parser.add_argument("--name", help="the process name to take")
    parser.add_argument("--log")
    parser.add_argument("--padding", help="for long and odd command lines")
    return parser.parse_args()


if __name__ == "__main__":
    main()
