"""A quiet machine: a free port, and one holder; against the packages that the command stands on."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.bench import peers
from tests.bench.bench import UnavailableError
from tests.lab import engine as engines
from tests.lab.ports import free_port
from tests.lab.processes import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.bench import Bench
    from tests.bench.rows import Row

FREE, WHO, PUBLISHED, LAZY = 1.3, 1.3, 1.4, 0.9
FASTER = 1.0  # than tools in Python and Node
NOBODY = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}


@contextmanager
def lab_of(bench: Bench) -> Iterator[Lab]:
    """A lab whose files go with the benchmark's."""
    folder = bench.folder / "lab"
    folder.mkdir(exist_ok=True)
    with Lab(folder) as lab:
        yield lab


def free(bench: Bench) -> Iterator[Row]:
    """A port that nobody holds, for which the engine is asked."""
    ours = bench.ultra("resolve", str(free_port()))
    yield from bench.compare("free", ours, [(bench.python("msgspec", "docker"), FREE)])


def lazy(bench: Bench) -> Iterator[Row]:
    """A port that nobody holds, without an engine, where imports are lazy (PEP 810)."""
    if not hasattr(sys, "set_lazy_imports"):
        raise UnavailableError("it takes Python 3.15")
    ours = bench.ultra("resolve", str(free_port()), env=NOBODY)
    yield from bench.compare("lazy", ours, [(bench.python(), LAZY)])


def who(bench: Bench) -> Iterator[Row]:
    """A port with one holder, and everybody who can tell."""
    with lab_of(bench) as lab:
        port = free_port()
        owners = {lab.start("answering", port).pid}
        ours = bench.ultra("who", str(port), names=lambda: owners)
        loaded = bench.python("msgspec", "psutil", "tabulate")
        others = [(loaded, WHO), *peers.contenders(bench, lab, port, owners, FASTER)]
        yield from bench.compare("who", ours, others)


def published(bench: Bench) -> Iterator[Row]:
    """A port that a container publishes."""
    local = engines.local_engine()
    try:
        port = free_port()
        local.publish(f"127.0.0.1:{port}:80").wait_for(port)
        ours = bench.ultra("who", str(port))
        loaded = bench.python("msgspec", "psutil", "tabulate", "docker")
        yield from bench.compare("published", ours, [(loaded, PUBLISHED)])
    finally:
        local.reap()
        local("rmi", "--force", local.image)
