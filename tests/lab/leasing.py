"""Many processes that take and give back leases of one ledger at once.

    python -m tests.lab.leasing LEDGER WORKERS FIRST PORTS keep COUNT
    python -m tests.lab.leasing LEDGER WORKERS FIRST PORTS churn COUNT

`keep`: each worker takes COUNT leases and keeps them until stdin ends. `churn`: each takes one or
two leases COUNT times, and gives them back. Whoever has a lease also locks a file named after its
port beside the ledger: the kernel says whether anybody else has it, and unlocks what the dead had.

Prints a JSON line with the workers' PIDs, then one for each worker that came to its end.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import random
import sys
from pathlib import Path

from resolver.errors import ReservedError
from resolver.leases.model import Claim, Lease
from resolver.leases.owner import Here, here, myself
from resolver.leases.stores.ledger import Ledger
from resolver.model import PortNumber, Transport

PATIENCE_SECONDS = 60.0


class Worker:
    """One process of many."""

    def __init__(self, path: Path, ports: range) -> None:
        where: Here = here({})
        self._store = Ledger(path, where, patience_seconds=PATIENCE_SECONDS)
        self._folder = path.parent
        self._ports = ports
        self._scope = where.host_scope
        self._owner = myself(where)
        self._locks: dict[int, int] = {}
        self._random = random.Random(os.getpid())  # noqa: S311 - any will do
        self._numbers = itertools.count()
        self.faults: list[str] = []

    def take(self, count: int) -> tuple[Lease, ...]:
        """Leases on `count` ports next to each other, wherever there are some."""
        while True:
            first = self._random.randrange(self._ports.start, self._ports.stop - count + 1)
            claims = [
                Claim(
                    self._scope,
                    PortNumber(first + offset),
                    Transport.TCP,
                    None,
                    f"w{next(self._numbers)}",  # each its own: the same one would be renewed
                    "lab",
                    owner=self._owner,
                )
                for offset in range(count)
            ]
            try:
                leases = self._store.acquire(claims)
            except ReservedError:
                continue
            for lease in leases:
                self._lock(lease.port)
            return leases

    def give_back(self, leases: tuple[Lease, ...]) -> None:
        """Unlocks and releases."""
        for lease in leases:
            os.close(self._locks.pop(lease.port))
        if self._store.release(leases) != leases:
            self.faults.append(f"a lease was lost: {leases}")

    def _lock(self, port: int) -> None:
        descriptor = os.open(self._folder / f"{port}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.faults.append(f"{port} was given to two")
        if port in self._locks:
            self.faults.append(f"{port} was given twice")
        self._locks[port] = descriptor


def work(path: Path, ports: range, mode: str, count: int) -> tuple[list[Lease], list[str]]:
    """What one worker ends with: the leases that it keeps, and what went wrong."""
    worker = Worker(path, ports)
    kept: list[Lease] = []
    for number in range(count):
        leases = worker.take(1 if mode == "keep" else 1 + number % 2)
        if mode == "keep":
            kept += leases
        else:
            worker.give_back(leases)
    return kept, worker.faults


def main() -> None:
    """Forks the workers, which start together, and waits for them."""
    path, workers, first, ports = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    mode, count = sys.argv[5], int(sys.argv[6])
    start, started = os.pipe()
    pids = []
    for _ in range(workers):
        pid = os.fork()
        if pid == 0:
            os.close(started)
            os.read(start, 1)
            kept, faults = work(path, range(first, first + ports), mode, count)
            facts = {"pid": os.getpid(), "ports": [each.port for each in kept], "faults": faults}
            os.write(1, f"{json.dumps(facts)}\n".encode())
            if mode == "keep":
                sys.stdin.buffer.read()
            os._exit(0)
        pids.append(pid)
    os.write(1, f"{json.dumps({'pids': pids})}\n".encode())
    os.close(started)
    for pid in pids:
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
