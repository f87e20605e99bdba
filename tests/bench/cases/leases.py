"""Reservations under contention."""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING

from tests.bench.bench import ROOT, UnavailableError
from tests.bench.rows import compared, counted
from tests.lab.ports import free_range

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.bench import Bench
    from tests.bench.rows import Row

RACERS, SPAN = 64, 100
SLOWEST_SECONDS = 0.5


def reserve(bench: Bench) -> Iterator[Row]:
    """Processes that reserve a port of one range at the same moment: the slowest, and the lost."""
    racers = 8 if bench.short else RACERS
    first = free_range(SPAN)
    slowest, lost = [], 0
    for number in range(1 if bench.short else 5):
        env = {"PYTHONPATH": str(ROOT), "ULTRA_PORTS_STATE": str(bench.folder / f"race{number}")}
        words = (str(racers), str(first), str(first + SPAN - 1))
        text = bench.output((sys.executable, "-m", "tests.bench.actors.racers", *words), env)
        told = [json.loads(line) for line in text.splitlines()]
        ports = {each.get("port") for each in told} - {None}
        lost += racers - len(ports)
        took = sorted(each["seconds"] for each in told if "port" in each)
        if not took:
            raise UnavailableError(str(told))
        slowest.append(took[math.ceil(len(took) * 0.99) - 1])
    what = f"p99 of {racers} reservations at once"
    names = ("reserve", what, f"{SLOWEST_SECONDS:g} s")
    yield compared(names, slowest, [SLOWEST_SECONDS] * len(slowest), 1.0)
    yield counted("reserve", "reservations lost or given twice", lost, 0, "of all runs")
