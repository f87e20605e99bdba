"""Other ports that the same processes serve, and how many clients are connected there.

They go down with a server by its design (its debugger, hot reload, metrics), so they are mentioned
and stop nothing. What the holder inherited is another matter (`inherited.py`).
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from resolver.collateral.displays import DISPLAY
from resolver.model import Collateral, CollateralKind, Degree
from resolver.phrases import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.collateral.family import Family
    from resolver.model import Container, Holder

_MOST = 8  # ports that are named


def lost(family: Family) -> Iterator[Collateral]:
    """One for each other port, and a last one for what is left of many."""
    served = sorted({(each.binding.port, each.binding.transport) for each in family.others})
    connected = Counter(
        (each.binding.port, each.binding.transport)
        for each in (family.group.clients if served else ())
    )
    for port, transport in served[:_MOST]:
        count = connected[port, transport]
        yield _port(f"{port}/{transport}" + (f" ({counted(count, 'client')})" if count else ""))
    if len(served) > _MOST:
        yield _port(f"{len(served) - _MOST} more ports")
    yield from _unix(family)


def _unix(family: Family) -> Iterator[Collateral]:
    """The unix sockets that are used by anybody: the way to a daemon that others share."""
    for path in family.group.paths[:_MOST]:
        count = family.sockets.clients_at(path)
        if count and not re.fullmatch(DISPLAY, path):
            yield _port(f"{path} ({counted(count, 'client')})")


def published(holder: Holder, container: Container) -> Iterator[Collateral]:
    """The other ports that a container publishes: they go with it."""
    found = {(each.port, each.transport) for each in container.published}
    for port, transport in sorted(found - {(holder.binding.port, holder.binding.transport)}):
        yield _port(f"{port}/{transport}")


def _port(text: str) -> Collateral:
    return Collateral(CollateralKind.PORT, Degree.MENTIONED, text)
