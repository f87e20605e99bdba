"""A server whose parent has exited: init, or the nearest subreaper, has it now."""

from __future__ import annotations

import os
import time

from tests.lab.servers.common import Endpoint, answer, begun, bound, next_signal, ready


def main() -> None:
    options = begun()
    server = bound(Endpoint("tcp", "127.0.0.1", options.port))
    parent = os.getpid()
    if os.fork():
        os._exit(0)
    while os.getppid() == parent:
        time.sleep(0.005)
    answer(server)
    ready(parent=os.getppid())
    next_signal(options.log, "server")
    os._exit(0)


if __name__ == "__main__":
    main()
