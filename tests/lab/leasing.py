"""Many processes that take leases of one ledger at once.

    python -m tests.lab.leasing LEDGER WORKERS FIRST PORTS COUNT

Each worker takes COUNT leases, prints their ports as a line of JSON, and keeps them until stdin
ends.
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path

from resolver.errors import ReservedError
from resolver.leases.model import Claim
from resolver.leases.owner import Here, here, myself
from resolver.leases.stores.ledger import Ledger
from resolver.model import PortNumber, Transport

PATIENCE_SECONDS = 60.0


def take(path: Path, ports: range, count: int) -> list[int]:
    """The ports of `count` new leases, wherever there are some."""
    where: Here = here({})
    store = Ledger(path, where, patience_seconds=PATIENCE_SECONDS)
    dice = random.Random(os.getpid())  # noqa: S311 - any will do
    taken: list[int] = []
    while len(taken) < count:
        port = PortNumber(dice.choice(ports))
        name = f"w{len(taken)}"  # each its own: the same one would be renewed
        claim = Claim(where.host_scope, port, Transport.TCP, None, name, "lab", owner=myself(where))
        try:
            taken += [lease.port for lease in store.acquire([claim])]
        except ReservedError:
            continue
    return taken


def main() -> None:
    """Forks the workers, which start together, and waits for them."""
    path, workers, first, ports, count = Path(sys.argv[1]), *map(int, sys.argv[2:6])
    start, started = os.pipe()
    pids = []
    for _ in range(workers):
        pid = os.fork()
        if pid == 0:
            os.close(started)
            os.read(start, 1)
            taken = take(path, range(first, first + ports), count)
            os.write(1, f"{json.dumps(taken)}\n".encode())
            sys.stdin.buffer.read()
            os._exit(0)
        pids.append(pid)
    os.close(started)
    for pid in pids:
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
