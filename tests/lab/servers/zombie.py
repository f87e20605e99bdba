"""A parent that never reaps: its serving child stays a zombie when it ends."""

from __future__ import annotations

import os

from tests.lab.servers.common import Endpoint, answer, begun, bound, next_signal, ready


def main() -> None:
    options = begun()
    told, telling = os.pipe()
    child = os.fork()
    if child == 0:
        answer(bound(Endpoint("tcp", "127.0.0.1", options.port)))
        os.write(telling, b".")
        next_signal(options.log, "child")
        os._exit(0)
    os.read(told, 1)
    ready(child=child)
    next_signal(options.log, "parent")
    os._exit(0)


if __name__ == "__main__":
    main()
