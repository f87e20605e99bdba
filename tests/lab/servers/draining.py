"""A server that lets go of its port first, and then finishes its work.

On SIGTERM it closes its listener, saves its data for a while, and ends; on SIGUSR1 it closes the
listener and lives on. With `--worker` a child holds the port too, and takes no SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from pathlib import Path

from tests.lab.servers.common import Endpoint, bound, hold_signals, next_signal, ready


def main() -> None:
    options = _options()
    hold_signals(signal.SIGUSR1)
    server = bound(Endpoint("tcp", "127.0.0.1", options.port))
    worker = os.fork() if options.worker else None
    if worker == 0:
        while True:
            next_signal(options.log, "worker")
    ready(worker=worker)
    while next_signal(options.log, "master", signal.SIGUSR1) == signal.SIGUSR1:
        server.close()
    server.close()
    time.sleep(options.slow)  # the work that a graceful stop has to finish
    if options.file:
        Path(options.file).write_text("all data\n", encoding="utf-8")
    os._exit(0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--worker", action="store_true")
    parser.add_argument("--slow", type=float, default=0.0, help="seconds that its last work takes")
    parser.add_argument("--file", help="what it writes then")
    parser.add_argument("--log")
    return parser.parse_args()


if __name__ == "__main__":
    main()
