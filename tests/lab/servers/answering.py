"""A server on one port, on any number of addresses, that ends in one of several ways."""

from __future__ import annotations

import argparse
import os
import socket
import time

from tests.lab.servers.common import Endpoint, answer, bound, hold_signals, next_signal, ready


def main() -> None:
    options = _options()
    if options.name:
        write("/proc/self/comm", options.name)  # proc(5)
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
        write(options.file, "all data\n")


def write(path: str, text: str) -> None:
    """In one write; nothing is imported for it, since so many of these are started."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(descriptor, text.encode())
    os.close(descriptor)


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
