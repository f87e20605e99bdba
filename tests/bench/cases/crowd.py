"""A crowded machine: 2,000 processes with 70,000 descriptors, and who of them holds a port."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.bench import peers, stage
from tests.bench.bench import UnavailableError
from tests.bench.cases.quiet import lab_of
from tests.bench.rows import absent, compared
from tests.lab.cli import ultra
from tests.lab.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.bench import Bench, Contender
    from tests.bench.rows import Row
    from tests.lab.processes import Lab

DESCRIPTORS = 35  # of each process
NARROW, WHOLE_SS, WHOLE_LSOF, MEMORY = 0.35, 0.85, 0.25, 1.5
INTERPRETED = 0.5  # of what tools in Python and Node take
# A run is weighed by a small parent: a process starts with the peak of whoever started it.
WEIGHED = """
import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[
    (os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)])
print(os.wait4(pid, 0)[2].ru_maxrss)
"""


def crowd(bench: Bench) -> Iterator[Row]:
    """The holder in a cgroup of its own, then in the root; then how much memory that takes."""
    processes = 40 if bench.short else 2000
    with ExitStack() as stack:
        stack.enter_context(stage.actor("crowd", processes, DESCRIPTORS))
        prefix: tuple[str, ...] | None = None
        try:
            prefix = stack.enter_context(stage.own_cgroup())
        except UnavailableError as reason:
            yield absent("crowd", "a cgroup of its own", str(reason))
        lab = stack.enter_context(lab_of(bench))
        if prefix is not None:
            yield from _narrow(bench, lab, prefix)
        yield from _whole(bench, lab, () if prefix is None else stage.inside(stage.unified()))


def _narrow(bench: Bench, lab: Lab, prefix: tuple[str, ...]) -> Iterator[Row]:
    port = free_port()
    server = lab.start("prefork", port, prefix=prefix)
    owners = stage.everyone(server)
    _check(bench, port, owners, "cgroup")
    ss = peers.asking(bench, "ss", "-ltnp", f"sport = :{port}", owners=owners)
    ours = bench.ultra("who", "-v", str(port), names=lambda: owners)
    others = [(ss, NARROW)] if ss else []
    yield from bench.compare("crowd, own cgroup", ours, [*others, (bench.python(), None)])


def _whole(bench: Bench, lab: Lab, prefix: tuple[str, ...]) -> Iterator[Row]:
    port = free_port()
    owners = stage.everyone(lab.start("prefork", port, prefix=prefix))
    _check(bench, port, owners, "complete")
    wanted = [
        (peers.asking(bench, "ss", "-ltnp", owners=owners), WHOLE_SS),
        (peers.asking(bench, "lsof", f"-iTCP:{port}", owners=owners), WHOLE_LSOF),
    ]
    others: list[tuple[Contender, float | None]] = [
        (peer, target) for peer, target in wanted if peer is not None
    ]
    others += (
        (peer, target)
        for peer, target in peers.contenders(bench, lab, port, owners, INTERPRETED)
        if not peer.label.startswith(("ss ", "lsof "))
    )
    ours = bench.ultra("who", "-v", str(port), names=lambda: owners)
    yield from bench.compare("crowd, no cgroup", ours, others)
    yield _memory(bench, ours.argv)


def _check(bench: Bench, port: int, owners: set[int], scan: str) -> None:
    """All owners are found, and in the way that is measured."""
    run = ultra("who", "--json", str(port), env=bench.env)
    (holder,) = run.port(f"{port}/tcp")["holders"]
    found = {each["pid"] for each in holder["processes"]}
    if (found, run.json["scan"]) != (owners, scan):
        seen = json.dumps([sorted(found), run.json["scan"]])
        raise UnavailableError(f"not {sorted(owners)} by {scan}, but {seen}")


def _memory(bench: Bench, argv: tuple[str, ...]) -> Row:
    python = bench.python()
    ours = [_peak(bench, argv) for _ in range(3)]
    theirs = [_peak(bench, python.argv) for _ in range(3)]
    names = ("crowd, memory", "ultra-ports who, peak", python.label)
    return compared(names, ours, theirs, MEMORY, "MB")


def _peak(bench: Bench, argv: tuple[str, ...]) -> float:
    """The largest resident set of any process of a run, in MB (getrusage(2))."""
    done = bench.output((sys.executable, "-I", "-S", "-c", WEIGHED, *argv))
    return int(done) / 1024
