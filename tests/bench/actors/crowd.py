"""Many processes with many descriptors each, which wait until stdin ends.

    python -S -m tests.bench.actors.crowd PROCESSES DESCRIPTORS

Of its descriptors a process has a third each of sockets, pipes and files. All of them end when the
first one does, however it ends: each waits at a pipe that only the first one could write to.
"""

from __future__ import annotations

import os
import socket
import sys

STANDARD = 4  # 0, 1, 2 and the pipe


def main() -> None:
    processes, descriptors = map(int, sys.argv[1:])
    waiting, holding = os.pipe()
    told, telling = os.pipe()
    for _ in range(processes - 1):
        if os.fork() == 0:
            try:
                os.close(holding)
                os.close(told)
                kept = _open(descriptors - STANDARD)
                os.write(telling, b".")
                os.close(telling)
                os.read(waiting, 1)
            finally:
                os._exit(0)
    kept = _open(descriptors - STANDARD - 1)
    os.close(telling)
    ready = 1
    while block := os.read(told, 1 << 16):
        ready += len(block)
    print(ready, flush=True)
    sys.stdin.read()
    os.close(holding)
    del kept
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


def _open(count: int) -> list[object]:
    kept: list[object] = []
    pairs = count // 6
    for _ in range(pairs):
        kept += socket.socketpair()
        kept += os.pipe()
    kept += (os.open("/dev/null", os.O_RDONLY) for _ in range(count - 4 * pairs))
    return kept


if __name__ == "__main__":
    main()
