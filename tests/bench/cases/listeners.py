"""Many listening sockets: the kernel filters by port."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tests.bench import stage
from tests.bench.cases.quiet import lab_of
from tests.lab.ports import free_port, free_range

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Sequence

    from tests.bench.bench import Bench
    from tests.bench.rows import Row

    Actors = Sequence[subprocess.Popen[str]]

PORTS = 40
MOST = 1000  # sockets of one process: a common limit on descriptors
FIRST_NET = 77  # 127.77.0.0/16 and what follows
GROWTH = 1.2


def listeners(bench: Bench) -> Iterator[Row]:
    """One port among 20,000 listening sockets, and among 200; the descriptors are as many."""
    many, few = (2000, 20) if bench.short else (20_000, 200)
    first, actors = free_range(PORTS), many // MOST
    with ExitStack() as stack:
        crowd = [
            stack.enter_context(stage.actor("listeners", MOST, first, PORTS, FIRST_NET + number))
            for number in range(actors)
        ]
        lab = stack.enter_context(lab_of(bench))
        port = free_port()
        yield from _compared(bench, crowd, (many, few), {lab.start("answering", port).pid}, port)


def _compared(
    bench: Bench, crowd: Actors, sizes: tuple[int, int], owners: set[int], port: int
) -> Iterator[Row]:
    many, few = sizes
    for words, named in ((("who", str(port)), owners), (("resolve", str(free_port())), set())):
        ours, theirs = (
            bench.ultra(
                *words,
                names=partial(set, named),
                before=partial(_listen, crowd, count // len(crowd)),
            )
            for count in sizes
        )
        label = f"{few} listening sockets, not {many}"
        theirs = replace(theirs, label=label)
        yield from bench.compare("listeners", ours, [(theirs, GROWTH)])


def _listen(crowd: Actors, each: int) -> None:
    for actor in crowd:
        stage.tell(actor, each)
