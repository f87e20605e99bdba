"""Many ports at once: one scan for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.bench import UnavailableError
from tests.bench.cases.quiet import lab_of
from tests.lab.ports import is_free

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.bench import Bench
    from tests.bench.rows import Row

SPAN, HELD = 1000, 10
ENOUGH = 2.0


def many(bench: Bench) -> Iterator[Row]:
    """A thousand ports, ten of them held by ten servers, and one of these alone."""
    first = _free_block()
    with lab_of(bench) as lab:
        ports = range(first, first + SPAN, SPAN // HELD)
        pids = {port: lab.start("answering", port).pid for port in ports}
        span = f"{first}-{first + SPAN - 1}"
        ours = bench.ultra(
            *("resolve", "--dry-run", span), statuses=(0, 1, 3), names=lambda: set(pids.values())
        )
        one = bench.ultra(
            *("resolve", "--dry-run", str(first)), statuses=(0, 1, 3), names=lambda: {pids[first]}
        )
        yield from bench.compare("many", ours, [(one, ENOUGH)])


def _free_block() -> int:
    for first in range(8000, 2000, -SPAN):
        if all(is_free(port) for port in range(first, first + SPAN)):
            return first
    raise UnavailableError("no thousand ports in a row are free")
