"""A gunicorn-like server: a master that binds, and workers that accept on its socket.

On SIGTERM the master stops its workers and waits for them; a worker that dies otherwise is
put on record. With `--forgets` the master just exits and its workers go on serving.
"""

from __future__ import annotations

import argparse
import os
import signal

from tests.lab.servers.common import (
    Endpoint,
    answer,
    bound,
    hold_signals,
    next_signal,
    ready,
    record,
)


def main() -> None:
    options = _options()
    hold_signals(signal.SIGCHLD)
    server = bound(Endpoint("tcp", "127.0.0.1", options.port))
    workers = set()
    for _ in range(options.workers):
        told, telling = os.pipe()
        worker = os.fork()
        if worker == 0:
            os.close(told)
            answer(server)
            os.write(telling, b".")
            os.close(telling)
            next_signal(options.log, "worker")
            os._exit(0)
        os.close(telling)
        os.read(told, 1)
        os.close(told)
        workers.add(worker)
    ready(workers=sorted(workers))
    while next_signal(options.log, "master", signal.SIGCHLD) == signal.SIGCHLD:
        lost, _ = os.waitpid(-1, os.WNOHANG)
        if lost:  # else one was merely stopped or continued
            workers.discard(lost)
            record(options.log, "master", "lost a worker", worker=lost)
    if not options.forgets:
        _stop(workers)
    os._exit(0)


def _stop(workers: set[int]) -> None:
    for worker in workers:
        os.kill(worker, signal.SIGTERM)
    for worker in workers:
        os.waitpid(worker, 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--forgets", action="store_true")
    parser.add_argument("--log")
    return parser.parse_args()


if __name__ == "__main__":
    main()
