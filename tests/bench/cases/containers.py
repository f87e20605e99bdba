"""Many containers: how often the engine is asked, and what its longer answers cost us."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.bench.bench import UnavailableError
from tests.bench.proxy import CountingProxy
from tests.bench.rows import compared, counted
from tests.lab import engine as engines
from tests.lab.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.bench import Bench, Contender
    from tests.bench.rows import Row

MOST_REQUESTS = 3
GROWTH = 1.3
AT_ONCE = 4  # containers that are started side by side


def containers(bench: Bench) -> Iterator[Row]:
    """One of 5 containers holds the port; then one of 200.

    They cannot come and go between two runs, so each block is measured against Python's start,
    which stands beside every run, and the two ratios are compared.
    """
    few, many = (2, 4) if bench.short else (5, 200)
    local = engines.local_engine()
    try:
        with CountingProxy(bench.folder / "engine.sock", local.socket) as proxy:
            yield from _grown(bench, local, proxy, few, many)
    finally:
        _remove(local)
        local.reap()
        local("rmi", "--force", local.image)


def _grown(
    bench: Bench, local: engines.Engine, proxy: CountingProxy, few: int, many: int
) -> Iterator[Row]:
    port = free_port()
    local.publish(f"127.0.0.1:{port}:80").wait_for(port)
    ours = bench.ultra(
        *("who", str(port)),
        env={"DOCKER_HOST": f"unix://{proxy.path}"},
        before=proxy.reset,
        aside=lambda: proxy.reset()[1],
    )
    _idle(local, few - 1)
    first = _against_python(bench, ours)
    _idle(local, many - few)
    second = _against_python(bench, ours)
    bench.seconds(replace(ours, aside=float))
    requests, _ = proxy.reset()
    what = f"engine requests of ultra-ports who, {many} containers"
    yield counted("containers", what, len(requests), MOST_REQUESTS, _brief(requests))
    names = ("containers", f"who, {many} containers", f"{few} containers, engine's time aside")
    yield compared(names, second, first, GROWTH, "x Python")


def _brief(requests: list[str]) -> str:
    return ", ".join(re.sub("[0-9a-f]{52}/", "…/", line.split()[1]) for line in requests)


def _against_python(bench: Bench, ours: Contender) -> list[float]:
    """How many times as long as Python's start with typer, run by run."""
    if wrong := bench.complaint(ours):
        raise UnavailableError(f"{ours.label}: {wrong}")
    bench.complaint(bench.python())
    runs = bench.in_turn([ours, bench.python()])
    return [a / b for a, b in zip(*runs, strict=True)]


def _idle(local: engines.Engine, count: int) -> None:
    """Starts containers that sleep."""
    options = ("--network=none", "--log-driver=none")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        started = [
            pool.submit(local.start, *options, command=("sleep", "100000")) for _ in range(count)
        ]
    for each in started:
        each.result()


def _remove(local: engines.Engine) -> None:
    """Removes them a few at a time: all at once would take longer than the engine is given."""
    left = local.left()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for start in range(0, len(left), 10):
            pool.submit(local, "rm", "--force", *left[start : start + 10])
