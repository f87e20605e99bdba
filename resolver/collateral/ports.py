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
        counted = f" ({count} client{'s' if count > 1 else ''})" if count else ""
        yield _port(f"{port}/{transport}{counted}")
    if len(served) > _MOST:
        yield _port(f"{len(served) - _MOST} more ports")
    yield from _unix(family)


def _unix(family: Family) -> Iterator[Collateral]:
    """The unix sockets that are used by anybody: the way to a daemon that others share."""
    sockets = family.sockets.unix
    theirs = {e.path for e in sockets if e.listening and e.inode in family.group.inodes}
    for path in sorted(theirs)[:_MOST]:
        count = sum(each.connected and each.path == path for each in sockets)
        if count and not re.fullmatch(DISPLAY, path):
            yield _port(f"{path} ({count} client{'s' if count > 1 else ''})")


def published(holder: Holder, container: Container) -> Iterator[Collateral]:
    """The other ports that a container publishes: they go with it."""
    found = {(each.port, each.transport) for each in container.published}
    for port, transport in sorted(found - {(holder.binding.port, holder.binding.transport)}):
        yield _port(f"{port}/{transport}")


def _port(text: str) -> Collateral:
    return Collateral(CollateralKind.PORT, Degree.MENTIONED, text)
