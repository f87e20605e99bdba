"""Who descends from a process, asked of the kernel at this moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from resolver.model import Pid

if TYPE_CHECKING:
    from collections.abc import Iterable


def descendants(pid: Pid) -> frozenset[Pid]:
    """Every living process below `pid`; zombies have ended and do not count."""
    parents = dict(_parents())
    found = {pid}
    while True:
        more = {child for child, parent in parents.items() if parent in found} - found
        if not more:
            return frozenset(found - {pid})
        found |= more


def _parents() -> Iterable[tuple[Pid, Pid]]:
    for process in psutil.process_iter(["ppid", "status"]):
        if process.info["status"] != psutil.STATUS_ZOMBIE and process.info["ppid"] is not None:
            yield Pid(process.pid), Pid(process.info["ppid"])
