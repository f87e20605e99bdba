"""One process with many TCP sockets, of which as many listen as each line of stdin says.

    python -S -m tests.bench.actors.listeners SOCKETS PORT PORTS NUMBER

They listen on loopback addresses of their own, 127.NUMBER.X.Y, on a few ports. The number of
descriptors never changes, so that nothing else does but the number of sockets that listen.
"""

from __future__ import annotations

import socket
import sys


def main() -> None:
    count, first, ports, own = map(int, sys.argv[1:])
    kept = [socket.socket() for _ in range(count)]
    listening = 0
    print("ready", flush=True)
    for line in sys.stdin:
        wanted = int(line)
        for number in range(listening, wanted):
            high, low = divmod(number // ports, 250)
            kept[number].bind((f"127.{own}.{high}.{low + 1}", first + number % ports))
            kept[number].listen(1)
        for number in range(wanted, listening):
            kept[number].close()
            kept[number] = socket.socket()
        listening = wanted
        print(listening, flush=True)


if __name__ == "__main__":
    main()
