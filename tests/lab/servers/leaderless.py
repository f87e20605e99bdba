"""A server whose main thread has ended, and whose other threads go on serving (pthread_exit(3))."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from pathlib import Path

from tests.lab.servers.common import Endpoint, answer, begun, bound, next_signal, ready

SYS_EXIT = {"x86_64": 60, "aarch64": 93}  # exit(2): of this thread alone


def main() -> None:
    options = begun()
    answer(bound(Endpoint("tcp", "127.0.0.1", options.port)))
    threading.Thread(target=_serve, args=(options.log,)).start()
    ctypes.CDLL(None).syscall(SYS_EXIT[os.uname().machine], 0)


def _serve(log: str | None) -> None:
    while "\nState:\tZ" not in Path("/proc/self/status").read_text(encoding="ascii"):
        time.sleep(0.005)
    ready()
    next_signal(log, "server")
    os._exit(0)


if __name__ == "__main__":
    main()
