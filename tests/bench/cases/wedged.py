"""An engine that accepts and never answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.cases.quiet import lab_of
from tests.bench.rows import compared
from tests.lab.engine import broken_socket
from tests.lab.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.bench import Bench, Contender
    from tests.bench.rows import Row
    from tests.lab.processes import Lab

TIMEOUT, GRACE = 1.0, 0.5  # seconds: its deadline, and what the rest may take
EXPLAINED = 1.3


def wedged(bench: Bench) -> Iterator[Row]:
    """A free port, for which the engine is asked, and one that a local holder explains."""
    with lab_of(bench) as lab, broken_socket(None) as path:
        env = {"DOCKER_HOST": f"unix://{path}"}
        words = ("--docker-timeout", str(TIMEOUT))
        wanted = bench.ultra("resolve", str(free_port()), *words, env=env, statuses=(0, 5))
        bench.complaint(wanted)
        (runs,) = bench.in_turn([wanted])
        names = ("wedged", wanted.label, f"{TIMEOUT:g} s + {GRACE:g} s")
        yield compared(names, runs, [TIMEOUT + GRACE] * len(runs), 1.0)
        port = free_port()
        owners = {lab.start("answering", port).pid}
        ours = bench.ultra(
            *("who", str(port), *words), env=env, statuses=(0, 5), names=lambda: owners
        )
        healthy = bench.ultra("who", str(port), names=lambda: owners)
        yield from bench.compare("wedged", ours, [(healthy, EXPLAINED)])
        ours, healthy = (_ended(bench, lab, *words, env=each) for each in (env, {}))
        yield from bench.compare("wedged", ours, [(healthy, EXPLAINED)])


def _ended(bench: Bench, lab: Lab, *words: str, env: dict[str, str]) -> Contender:
    """`resolve` of a port that has a new holder each time."""
    port = free_port()
    return bench.ultra(
        *("resolve", str(port), *words), env=env, before=lambda: lab.start("plain", port)
    )
