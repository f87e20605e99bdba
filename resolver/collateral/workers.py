"""Workers that serve a port through their master, and have no socket of their own for it.

Node's cluster module listens in the primary and passes connections on; a worker is what has
NODE_UNIQUE_ID in its environment (nodejs.org/api/cluster.html, `cluster.isPrimary`). Who shares the
socket itself is a holder, and counted as such.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.model import Collateral, CollateralKind, Degree
from resolver.phrases import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.collateral.family import Family

_MARK = "NODE_UNIQUE_ID"


def lost(family: Family) -> Iterator[Collateral]:
    """How many there are below the holder's own processes: they go down with it by its design."""
    masters = {process.identity for process in family.members if not process.variable(_MARK)}
    found = [e for e in family.group.below if e.parent in masters and e.variable(_MARK)]
    if found:
        yield Collateral(
            CollateralKind.WORKERS,
            Degree.MENTIONED,
            counted(len(found), "worker"),
            f"it passes connections on to {', '.join(map(str, found))}",
        )
