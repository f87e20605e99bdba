"""How long a holder has run, and whether other machines reach it: what `who` says of each port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.host.identity import age_seconds
from resolver.model import SocketState
from resolver.phrases import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.model import Holder, Process

_SERVING = {SocketState.LISTENING, SocketState.UNCONNECTED, SocketState.PUBLISHED}
_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60))


def remarks(holders: Iterable[Holder]) -> tuple[str, ...]:
    """One line for each main process that is older than a minute, and one on who reaches the port.

    A firewall is not asked: an address that is not of this machine alone counts as reachable.
    """
    found = list(holders)
    masters = dict.fromkeys(each.master for each in found if each.master is not None)
    return (*(line for each in masters for line in _age(each)), *_exposed(found))


def _age(process: Process) -> Iterator[str]:
    for unit, size in _UNITS:
        count = int(age_seconds(process.identity) // size)
        if count:
            yield f"{process} has run for {counted(count, unit)}"
            return


def _exposed(holders: Iterable[Holder]) -> Iterator[str]:
    serving = {each.binding for each in holders if each.state in _SERVING}
    if wide := sorted({each.address for each in serving if each.is_reachable}):
        yield f"reachable from other machines, on {' and '.join(wide)}"
