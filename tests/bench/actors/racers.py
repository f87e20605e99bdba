"""Many processes that reserve a port of one range at the same moment.

    python -m tests.bench.actors.racers PROCESSES FIRST LAST

Prints a JSON line for each: how many seconds it took, and the port, or what went wrong. All that a
reservation needs is loaded before the start, as in a program that uses the package.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from resolver import portspec, verify
from resolver.errors import UltraPortsError
from resolver.gather import list_sockets, sock_diag
from resolver.leases.owner import here
from resolver.leases.store import open_store
from resolver.leases.stores import ledger
from resolver.reservations.allocate import reserve
from resolver.reservations.terms import Terms

if TYPE_CHECKING:
    from resolver.model import PortRequest

LOADED_BEFORE = (ledger, verify, list_sockets, sock_diag)


def main() -> None:
    processes, first, last = map(int, sys.argv[1:])
    requests = tuple(portspec.parse([f"{first}-{last}"]))
    waiting, starting = os.pipe()
    told, telling = os.pipe()
    for number in range(processes):
        if os.fork() == 0:
            try:
                os.close(starting)
                os.write(telling, b".")
                os.read(waiting, 1)
                said = _race(f"service{number}", requests)
                os.write(1, (json.dumps(said) + "\n").encode())
            finally:
                os._exit(0)
    os.close(telling)
    missing = processes
    while missing and (ready := os.read(told, missing)):  # until all of them are at the line
        missing -= len(ready)
    os.close(starting)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def _race(service: str, requests: tuple[PortRequest, ...]) -> dict[str, object]:
    begun = time.perf_counter()
    place = Path.cwd()
    try:
        where = here(os.environ)
        store = open_store(os.environ, place)
        try:
            terms = Terms(where.host_scope, "bench", str(place), strict=True, beside=True)
            port = int(reserve(service, requests, terms, store).request.port)
        finally:
            store.close()
    except UltraPortsError as error:
        return {"error": str(error)}
    return {"port": port, "seconds": time.perf_counter() - begun}


if __name__ == "__main__":
    main()
