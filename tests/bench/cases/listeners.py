"""Many listening sockets: the kernel filters by port."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.bench import stage
from tests.bench.cases.quiet import lab_of
from tests.lab.ports import free_port, free_range

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.bench import Bench
    from tests.bench.rows import Row

PORTS = 40
GROWTH = 1.2


def listeners(bench: Bench) -> Iterator[Row]:
    """One port among 20,000 listening sockets, and among 200; the descriptors are as many."""
    many, few = (600, 20) if bench.short else (20_000, 200)
    with (
        stage.actor("listeners", many, free_range(PORTS), PORTS) as crowd,
        lab_of(bench) as lab,
    ):
        port = free_port()
        owners = {lab.start("answering", port).pid}
        for words, names in (
            (("who", str(port)), owners),
            (("resolve", str(free_port())), set()),
        ):
            ours, theirs = (
                bench.ultra(
                    *words,
                    names=lambda names=names: names,
                    before=lambda count=count: stage.tell(crowd, count),
                )
                for count in (many, few)
            )
            label = f"the same with {few} listening sockets, not {many}"
            for row in bench.compare("listeners", ours, [(theirs, GROWTH)]):
                yield replace(row, against=label)
