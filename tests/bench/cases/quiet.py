"""A quiet machine: a free port, and one holder."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.bench import peers
from tests.lab.ports import free_port
from tests.lab.processes import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.bench import Bench
    from tests.bench.rows import Row

FREE, WHO = 1.3, 1.3


@contextmanager
def lab_of(bench: Bench) -> Iterator[Lab]:
    """A lab whose files go with the benchmark's."""
    folder = bench.folder / "lab"
    folder.mkdir(exist_ok=True)
    with Lab(folder) as lab:
        yield lab


def free(bench: Bench) -> Iterator[Row]:
    """A port that nobody holds."""
    ours = bench.ultra("resolve", str(free_port()))
    yield from bench.compare("free", ours, [(bench.python("msgspec", "docker"), FREE)])


def who(bench: Bench) -> Iterator[Row]:
    """A port with one holder, and everybody who can tell."""
    with lab_of(bench) as lab:
        port = free_port()
        owners = {lab.start("answering", port).pid}
        ours = bench.ultra("who", str(port), names=lambda: owners)
        loaded = bench.python("msgspec", "psutil", "tabulate")
        others = [(loaded, WHO), *peers.contenders(bench, lab, port, owners)]
        yield from bench.compare("who", ours, others)
