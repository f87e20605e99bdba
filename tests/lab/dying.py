"""Kills a process of its own at every single call that it makes while it uses a ledger.

    python -m tests.lab.dying LEDGER

For each number n: a child starts where there is no ledger, is killed by SIGKILL at its n-th call of
any function, and a successor has to get the same port at once. Prints one line of JSON: how many
deaths there were, and what failed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

from resolver.leases.model import Claim
from resolver.leases.owner import Here, here, myself
from resolver.leases.stores.ledger import Ledger
from resolver.model import PortNumber, Transport

STEP = 7  # calls from one death to the next; the first one is another for each run


def use(path: Path, where: Here) -> None:
    """Opens the ledger, takes a lease, and gives back an older one."""
    ledger = Ledger(path, where, patience_seconds=20)
    [old] = ledger.acquire([claim(where, 8086)])
    ledger.acquire([claim(where, 8085)])
    ledger.release([old])


def claim(where: Here, port: int) -> Claim:
    service = f"by {os.getpid()}"
    scope = where.host_scope
    return Claim(scope, PortNumber(port), Transport.TCP, None, service, "lab", owner=myself(where))


def dies(path: Path, where: Here, number: int) -> bool:
    """Whether the child was killed at that call; False where it ended before it got so far."""
    child = os.fork()
    if child == 0:
        left = number

        def count(_frame: object, event: str, _argument: object) -> None:
            nonlocal left
            left -= event in {"call", "c_call"}
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(count)
        use(path, where)
        sys.setprofile(None)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def main() -> None:
    path, where = Path(sys.argv[1]), here({})
    deaths, faults = 0, []
    number = 1 + os.getpid() % STEP
    while True:
        shutil.rmtree(path.parent)
        path.parent.mkdir()
        if not dies(path, where, number):
            break
        deaths += 1
        try:
            use(path, where)
            if len(Ledger(path, where).leases()) != 1:
                faults.append(f"{number}: another number of leases")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            faults.append(f"{number}: {error!r}")
        number += STEP
    print(json.dumps({"deaths": deaths, "faults": faults}))


if __name__ == "__main__":
    main()
