"""Somebody's desktop in the holder: an X or Wayland server with clients (X(7), unix(7))."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.model import Collateral, CollateralKind, Degree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.collateral.family import Family

_DISPLAY = r"@?/tmp/\.X11-unix/X(?P<x>\d+)|.*/wayland-(?P<wayland>\d+)"


def lost(family: Family) -> Iterator[Collateral]:
    """The display that the holder is, with the clients whose windows are on it."""
    theirs = {
        match[0].removeprefix("@"): f":{match['x']}" if match["x"] else f"wayland-{match[2]}"
        for each in family.sockets.unix
        if each.listening and each.inode in family.inodes
        if (match := re.fullmatch(_DISPLAY, each.path))
    }
    for path, name in sorted(theirs.items()):
        clients = sum(
            each.connected and each.path.removeprefix("@") == path for each in family.sockets.unix
        )
        counted = f"{clients} client{'' if clients == 1 else 's'}"
        yield Collateral(
            CollateralKind.DESKTOP,
            Degree.REFUSED if clients else Degree.MENTIONED,
            f"the desktop {name} with {counted}",
            f"it listens at {path}",
        )
