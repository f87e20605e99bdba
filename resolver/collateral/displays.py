"""Somebody's desktop: an X or Wayland server with clients, or an application with windows on one.

Known by the sockets between them (X(7), unix(7)). A display that nobody looks at (Xvfb), and an
application that a program drives, are nobody's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.gather.owners import owners_of
from resolver.gather.processes import described
from resolver.host.descriptors import PREFIX, open_files
from resolver.model import Collateral, CollateralKind, Degree
from resolver.phrases import counted
from resolver.programs import known_as

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.collateral.family import Family
    from resolver.model import Pid, Process

_NEAR = 4  # so many parents are looked at
_VIRTUAL = frozenset({"Xvfb", "Xdummy"})
_DRIVEN = r"--enable-automation|--test-type|--headless|-marionette"  # by a test
DISPLAY = r"@?/tmp/\.X11-unix/X(?P<x>\d+)|.*/wayland-(?P<wayland>\d+)"


def lost(family: Family) -> Iterator[Collateral]:
    """The display that the holder is, or the one that it has windows on."""
    yield from _display(family)
    yield from _windows(family)


def _windows(family: Family) -> Iterator[Collateral]:
    """The display of which the holder is a client, or the main process of its program is."""
    ends = {each.peer: each.path for each in family.sockets.unix if each.connected and each.peer}
    shown = {end: path for end, path in ends.items() if re.fullmatch(DISPLAY, path)}
    if not shown:
        return
    for process in (*family.members, *_main_processes(family)):
        theirs = {int(target[len(PREFIX) : -1]) for target in _sockets(process.pid)}
        path = next((shown[each] for each in theirs & shown.keys()), "")
        if path and not (re.search(_DRIVEN, process.command_line) or _is_virtual(family, path)):
            yield Collateral(
                CollateralKind.DESKTOP,
                Degree.REFUSED,
                f"{process} with its windows on somebody's desktop",
                f"it is a client of the display at {path}",
            )
            return


def _main_processes(family: Family) -> list[Process]:
    """The processes above that run the same program, as those of Electron and Chromium do."""
    programs = {process.executable for process in family.members} - {None}
    return [each for each in family.above(_NEAR) if each.executable in programs]


def _sockets(pid: Pid) -> Iterator[str]:
    return (target for _, target in open_files(pid) if target.startswith(PREFIX))


def _is_virtual(family: Family, path: str) -> bool:
    """Whether the display is one that is drawn in memory only (Xvfb(1))."""
    name = path.removeprefix("@")
    listeners = [e.inode for e in family.sockets.unix if e.listening and e.path.endswith(name)]
    owners = (owner for found in owners_of(listeners).values() for owner in found)
    return any(known_as(each, _VIRTUAL) for each in described(owners))


def _display(family: Family) -> Iterator[Collateral]:
    """The display that the holder is, with the clients whose windows are on it."""
    theirs = {
        match[0].removeprefix("@"): f":{match['x']}" if match["x"] else f"wayland-{match[2]}"
        for each in family.group.paths
        if (match := re.fullmatch(DISPLAY, each))
    }
    for path, name in sorted(theirs.items()):
        clients = sum(map(family.sockets.clients_at, (path, f"@{path}")))
        yield Collateral(
            CollateralKind.DESKTOP,
            Degree.REFUSED if clients else Degree.MENTIONED,
            f"the desktop {name} with {counted(clients, 'client')}",
            f"it listens at {path}",
        )
