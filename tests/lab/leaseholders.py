"""Many processes that take and give back leases at once; run as a program of its own.

    python -m tests.lab.leaseholders --store URL --state DIR --processes 32 --acquires 20 --kills 8

Each grant is checked by a file of its own for each port, which the holder makes exclusively and
removes before it releases: where the file of another living holder is there, a port was given out
twice. The children of one process, which is quick to start; some of them are killed at random
moments by SIGKILL, and others take their place. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.errors import ReservedError, StoreError
from resolver.leases.model import Claim
from resolver.leases.owner import here, myself
from resolver.leases.store import open_store
from resolver.model import PortNumber, Transport

if TYPE_CHECKING:
    from resolver.leases.model import Lease, Owner
    from resolver.protocols import LeaseStore

SCOPE = "host:crowd"
PORTS = range(20_000, 20_048)  # numbers alone: nothing is bound
PATIENCE_SECONDS = 60.0


def take_and_give(state: Path, acquires: int, number: int) -> None:
    """What one child does; it raises where a port was given out twice."""
    dice = random.Random(f"{number} {os.getpid()}")  # noqa: S311 - no secret
    where = here(os.environ)
    me = myself(where)
    store = open_store(os.environ, state)
    done, deadline = 0, time.monotonic() + PATIENCE_SECONDS
    while done < acquires:
        assert time.monotonic() < deadline, f"only {done} of {acquires} acquires"
        ports = dice.sample(PORTS, dice.choice((1, 1, 2)))
        try:
            leases = store.acquire([claim(port, f"s{number}", me) for port in ports])
        except (ReservedError, StoreError) as error:
            assert isinstance(error, ReservedError) or "is busy" in str(error), error
            continue
        for port in ports:
            occupy(state / str(port), me.pid)
        for port in ports:
            (state / str(port)).unlink()
        assert released(store, leases, deadline) == leases, "a lease was lost"
        done += 1


def released(store: LeaseStore, leases: tuple[Lease, ...], deadline: float) -> tuple[Lease, ...]:
    """What was released; a disk that keeps everybody waiting is no reason to give up."""
    while True:
        try:
            return store.release(leases)
        except StoreError as error:
            if "is busy" not in str(error) or time.monotonic() > deadline:
                raise


def occupy(file: Path, pid: int) -> None:
    """Makes the file; one that a dead process left is replaced."""
    mine = file.with_name(f"{file.name}.{pid}")
    mine.write_text(str(pid), encoding="ascii")
    try:
        os.link(mine, file)
    except FileExistsError:
        other = int(file.read_text(encoding="ascii"))
        assert not alive(other), f"port {file.name} is {other}'s and {pid}'s"
        mine.replace(file)
    else:
        mine.unlink()


def alive(pid: int) -> bool:
    """Whether it has not ended; a zombie has."""
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return line[line.rindex(b")") + 2 :][:1] not in {b"Z", b"X"}


def spawn(state: Path, acquires: int, number: int) -> int:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            take_and_give(state, acquires, number)
            status = 0
        except BaseException as error:  # noqa: BLE001 - the parent reports it
            (state / f"failed.{os.getpid()}").write_text(f"{error!r}", encoding="utf-8")
        os._exit(status)
    return pid


def crowd(state: Path, processes: int, acquires: int, kills: int) -> dict[str, object]:
    children = {spawn(state, acquires, number) for number in range(processes)}
    dice = random.Random(processes)  # noqa: S311 - no secret
    killed = 0
    while children:
        if killed < kills:
            time.sleep(dice.uniform(0.001, 0.03))
            os.kill(dice.choice(sorted(children)), signal.SIGKILL)
            killed += 1
            children.add(spawn(state, acquires, processes + killed))
        while children:
            pid, _ = os.waitpid(-1, os.WNOHANG if killed < kills else 0)
            if pid == 0:
                break
            children.discard(pid)
    failures = [each.read_text(encoding="utf-8") for each in state.glob("failed.*")]
    store = open_store(os.environ, state)
    left = [lease.port for lease in store.leases(SCOPE)]
    store.prune()
    free = len(store.acquire([claim(port, "last", myself(here(os.environ))) for port in PORTS]))
    return {"failures": failures, "left": left, "killed": killed, "free": free}


def claim(port: int, service: str, me: Owner) -> Claim:
    return Claim(SCOPE, PortNumber(port), Transport.TCP, None, service, "p", "", me)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", default="")
    parser.add_argument("--state", type=Path, required=True)
    for name in ("processes", "acquires", "kills"):
        parser.add_argument(f"--{name}", type=int, default=0)
    given = parser.parse_args()
    os.environ["ULTRA_PORTS_STORE"] = given.store
    os.environ["ULTRA_PORTS_STATE"] = str(given.state)
    json.dump(crowd(given.state, given.processes, given.acquires, given.kills), sys.stdout)


if __name__ == "__main__":
    main()
