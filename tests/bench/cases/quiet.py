"""A quiet machine: a free port, one holder, and what is loaded for either."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.bench import peers
from tests.bench.rows import counted
from tests.lab.ports import free_port
from tests.lab.processes import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.bench import Bench
    from tests.bench.rows import Row

HEAVY = ("docker", "psutil", "tabulate", "rich")
FREE, WHO = 1.25, 1.6
LOADED = """
import sys
from resolver.cli import main
try:
    main()
finally:
    print(*sorted(sys.modules), file=sys.stderr)
"""


@contextmanager
def lab_of(bench: Bench) -> Iterator[Lab]:
    """A lab whose files go with the benchmark's."""
    folder = bench.folder / "lab"
    folder.mkdir(exist_ok=True)
    with Lab(folder) as lab:
        yield lab


def modules(bench: Bench) -> Iterator[Row]:
    """What `resolve` loads for a free port, with the engine that is here."""
    with lab_of(bench) as lab:
        held = free_port()
        lab.start("answering", held)
        for words in (("resolve", str(free_port())), ("who", str(held))):
            yield _heavy(bench, *words)


def _heavy(bench: Bench, *words: str) -> Row:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *words],
        env=bench.env,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stderr.split())
    assert "resolver.cli" in loaded
    found = sorted(loaded & set(HEAVY))
    what = f"modules of {', '.join(HEAVY)} loaded by ultra-ports {words[0]}"
    return counted("modules", what, len(found), 0, " ".join(found) or "sys.modules")


def free(bench: Bench) -> Iterator[Row]:
    """A port that nobody holds."""
    ours = bench.ultra("resolve", str(free_port()))
    yield from bench.compare("free", ours, [(bench.python(), FREE)])


def who(bench: Bench) -> Iterator[Row]:
    """A port with one holder, and everybody who can tell."""
    with lab_of(bench) as lab:
        port = free_port()
        owners = {lab.start("answering", port).pid}
        ours = bench.ultra("who", str(port), names=lambda: owners)
        others = [(bench.python(), WHO), *peers.contenders(bench, lab, port, owners)]
        yield from bench.compare("who", ours, others)
