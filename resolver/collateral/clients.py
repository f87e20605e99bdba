"""Who is connected to a holder, by name: its clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver import portspec
from resolver.gather import list_sockets
from resolver.gather.owners import owners_of
from resolver.gather.processes import describe
from resolver.phrases import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolver.model import Socket

_MOST = 5  # clients that are named


def names_of_clients(connections: Iterable[Socket]) -> str:
    """`2 clients (node 77, 10.0.0.7:4711)`: local ones are processes; empty for nobody."""
    found = list(dict.fromkeys(each.peer for each in connections if each.peer))
    if not found:
        return ""
    named = _named(found[:_MOST])
    texts = dict.fromkeys(named.get(peer, peer) for peer in found[:_MOST])
    more = f" and {len(found) - _MOST} more" if len(found) > _MOST else ""
    return f"{counted(len(found), 'client')} ({', '.join(texts)}{more})"


def _named(peers: Sequence[str]) -> dict[str, str]:
    """The process at each of these ends, where it is on this machine."""
    requests = portspec.parse(peers)
    ends = {
        e.inode: str(e.binding) for e in list_sockets(requests, connections=True) if e.inode > 0
    }
    owners = owners_of(ends)
    processes = {e.identity: e for e in describe(o for each in owners.values() for o in each)}
    return {
        ends[inode]: ", ".join(str(processes[each]) for each in theirs if each in processes)
        for inode, theirs in owners.items()
    }
