"""One process with many TCP sockets, of which as many listen as each line of stdin says.

    python -S -m tests.bench.actors.listeners SOCKETS PORT PORTS

They listen on loopback addresses of their own, 127.X.Y.Z, on a few ports. The number of descriptors
never changes, so that nothing else does but the number of sockets that listen.
"""

from __future__ import annotations

import resource
import socket
import sys


def main() -> None:
    count, first, ports = map(int, sys.argv[1:])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, max(hard, count + 100)))
    kept = [socket.socket() for _ in range(count)]
    listening = 0
    print("ready", flush=True)
    for line in sys.stdin:
        wanted = int(line)
        for number in range(listening, wanted):
            kept[number].bind((_address(number // ports), first + number % ports))
            kept[number].listen(1)
        for number in range(wanted, listening):
            kept[number].close()
            kept[number] = socket.socket()
        listening = wanted
        print(listening, flush=True)


def _address(number: int) -> str:
    high, low = divmod(number, 250)
    return f"127.77.{high}.{low + 1}"


if __name__ == "__main__":
    main()
