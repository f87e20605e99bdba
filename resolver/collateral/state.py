"""State in memory that somebody works with: kernels of notebooks.

Every kernel of Jupyter is started with the path of its connection file
(jupyter-client.readthedocs.io, "Connection files"), in whatever language it is written. marimo's
editor has one process for each notebook that is open (docs.marimo.io, "marimo edit"), by
multiprocessing, or as a module of its own in another environment. Consoles are in `known.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.gather.processes import described
from resolver.model import Collateral, CollateralKind, Degree
from resolver.programs import known_as

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.collateral.family import Family
    from resolver.model import Process

_CONNECTION_FILE = re.compile(
    r"(?:^|[/=])kernel-[\w.-]+\.json$|/jupyter/runtime/[^/]+\.json$|^ipykernel"
)
_MARIMO, _MODULE = frozenset({"marimo"}), "marimo._ipc.launch_kernel"
_SPAWNED = re.compile(r"^from multiprocessing\.spawn import ")  # multiprocessing's own `-c`


def lost(family: Family) -> Iterator[Collateral]:
    """The kernels among the holder's processes, and those that it has started."""
    for process in (*family.members, *family.group.below):
        if evidence := _kernel(process):
            yield Collateral(
                CollateralKind.STATE,
                Degree.REFUSED,
                f"the notebook kernel {process.pid} with all its variables",
                evidence,
            )


def _kernel(process: Process) -> str:
    """How a process is known to be a kernel; empty for any other."""
    if word := next(filter(_CONNECTION_FILE.search, process.command), ""):
        return f"its command line names {word}"
    if _MODULE in process.command:
        return f"it runs {_MODULE}"
    if process.parent and any(map(_SPAWNED.match, process.command)):
        for parent in described([process.parent]):
            if known_as(parent, _MARIMO):
                return f"{parent} has spawned it"
    return ""
