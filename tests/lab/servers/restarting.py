"""A reloader: it never holds the port itself, and starts a new server as soon as one ends."""

from __future__ import annotations

import argparse
import os
import signal

from tests.lab.servers.common import Endpoint, answer, bound, hold_signals, next_signal, ready


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--log")
    options = parser.parse_args()
    hold_signals(signal.SIGCHLD)
    told, telling = os.pipe()
    child = _start(options.port, telling)
    os.read(told, 1)
    ready(child=child)
    while next_signal(options.log, "parent", signal.SIGCHLD) == signal.SIGCHLD:
        os.waitpid(child, 0)
        child = _start(options.port, telling)
    os.kill(child, signal.SIGKILL)
    os._exit(0)


def _start(port: int, telling: int) -> int:
    child = os.fork()
    if child == 0:
        try:
            answer(bound(Endpoint("tcp", "127.0.0.1", port)))
        except OSError:
            os._exit(1)  # somebody probes the port: the parent tries again
        os.write(telling, b".")
        next_signal(None, "child")
        os._exit(0)
    return child


if __name__ == "__main__":
    main()
