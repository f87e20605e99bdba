"""Servers that move on: what came in the place of an ended one, on another port. Read-only.

A server that finds its port in use often takes the next one (vite, next, webpack-dev-server), and
so may one that is started again. To watch the freed port alone would miss it: so what started
after the steps began is looked at, too, and compared with the family of those that were ended.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.gather import list_sockets
from resolver.gather.owners import owners_of
from resolver.gather.processes import describe
from resolver.host.identity import identified, is_alive
from resolver.host.processes import pids
from resolver.model import SocketState, Successor
from resolver.programs import hosts_somebody, is_interactive, untouchable
from resolver.settings import LONGER_SETTLE, WATCH_INTERVAL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from resolver.model import Binding, Pid, Process, ProcessIdentity, Snapshot, Step
    from resolver.protocols import Clock

_NEAR = 4  # so many parents are looked at: loop → npm → sh → node
_NEXT = 2  # and so many where the command line says nothing: loop → sh → node
_MOST = 200  # new processes that are looked at


class Before(Struct, frozen=True):
    """What was there before the steps: every process, and every socket that served."""

    pids: frozenset[Pid] = frozenset()
    inodes: frozenset[int] = frozenset()


def before() -> Before:
    """What is there now."""
    return Before(frozenset(pids()), frozenset(each.inode for each in list_sockets(None)))


class Lineage:
    """The ended processes, by what a successor of theirs would have in common with them.

    `snapshot` is the one in which they were found; whoever is above the caller, too, or hosts
    sessions, starts other things besides.
    """

    def __init__(self, ended: Sequence[Process], snapshot: Snapshot, earlier: Before) -> None:
        self._earlier = earlier.pids
        self._own = snapshot.own
        above = [each.ancestors[:_NEAR] for each in ended]
        self._starters = frozenset(each for line in above for each in line)
        self._parents = frozenset(each for line in above for each in line[:_NEXT])
        lines = [snapshot.process(identity) for line in above for identity in line]
        gone = [each for each in lines if each is not None and not is_alive(each.identity)]
        family = [each for each in (*ended, *gone) if each.command and not is_interactive(each)]
        self._lines = {(each.uid, _plain(each.command)) for each in family}
        self._words = {(each.uid, each.command) for each in family}
        self._places = {each.cwd for each in ended} - {None}

    def may_follow(self, process: Process) -> bool:
        """Whether it is new, and no command that this one runs."""
        ours = bool(self._own) and self._own[0] in process.line
        return process.pid not in self._earlier and not ours

    def starter(self, fresh: Process, known: Mapping[ProcessIdentity, Process]) -> Process | None:
        """The nearest process that is above both, and lives; None where there is none."""
        shared = next((each for each in fresh.ancestors[:_NEAR] if each in self._starters), None)
        found = known.get(shared) if shared else None
        return found if found is not None and found.pid > 1 else None

    def is_alike(self, fresh: Process, starter: Process | None) -> bool:
        """Whether it has the command line of one that was ended, whatever the numbers in it."""
        alike = (fresh.uid, _plain(fresh.command)) in self._lines
        return alike and (self._runs(starter) or fresh.cwd in self._places)

    def is_same(self, fresh: Process) -> bool:
        """Whether it has that very command line."""
        return (fresh.uid, fresh.command) in self._words

    def follows(self, starter: Process | None) -> bool:
        """Whether what this one starts is kin, whatever its command line."""
        return starter is not None and starter.identity in self._parents and self._runs(starter)

    def _runs(self, starter: Process | None) -> bool:
        """Whether it runs servers, and is nobody's shell, tool or session."""
        return not (
            starter is None
            or starter.identity in self._own
            or hosts_somebody(starter)
            or untouchable(starter)
        )


def watch(
    lineages: Mapping[Step, Lineage],
    earlier: Before,
    settle_seconds: float,
    clock: Clock,
    is_taken: Callable[[], bool],
) -> dict[Step, tuple[Successor, ...]]:
    """What came in the place of those that each step ended, after the watch over their port.

    A successor that serves nothing yet is given more time, until the port itself `is_taken`: then
    it is not elsewhere, and nothing is found.
    """
    deadline = clock.monotonic() + settle_seconds * LONGER_SETTLE
    while not is_taken():
        known = _fresh(earlier)
        found = {
            step: tuple(_successors(lineage, known, _served(earlier, known)))
            for step, lineage in lineages.items()
        }
        starting = any(each.binding is None for every in found.values() for each in every)
        if not starting or clock.monotonic() >= deadline:
            return found
        clock.sleep(WATCH_INTERVAL_SECONDS)
    return {}


def _fresh(earlier: Before) -> dict[ProcessIdentity, Process]:
    """The processes that were not there before, and all that is above them."""
    fresh = [pid for pid in pids() if pid not in earlier.pids][:_MOST]
    return {each.identity: each for each in describe(identified(fresh))}


def _successors(
    lineage: Lineage,
    known: Mapping[ProcessIdentity, Process],
    served: Mapping[ProcessIdentity, Binding],
) -> Iterator[Successor]:
    """The topmost new processes of the family: those with a port; else those that are starting."""
    found: list[Successor] = []
    for process in filter(lineage.may_follow, known.values()):
        starter, binding = lineage.starter(process, known), served.get(process.identity)
        alike = lineage.is_alike(process, starter)
        if alike or (binding and lineage.follows(starter)):
            by = starter or next(filter(None, map(known.get, process.ancestors)), None)
            same = lineage.is_same(process)
            found.append(Successor(process, binding, by, alike=alike, same=same))
    chosen = [each for each in found if each.binding] or found
    tops = {each.process.identity for each in chosen}
    yield from (each for each in chosen if tops.isdisjoint(each.process.ancestors))


def _served(
    earlier: Before, known: Mapping[ProcessIdentity, Process]
) -> dict[ProcessIdentity, Binding]:
    """The first new endpoint on which each of them listens."""
    sockets = [
        each
        for each in list_sockets(None)
        if each.state is SocketState.LISTENING and each.inode not in earlier.inodes
    ]
    owners = owners_of((each.inode for each in sockets), [each.pid for each in known])
    found: dict[ProcessIdentity, Binding] = {}
    for each in sorted(sockets):
        for owner in owners.get(each.inode, ()):
            found.setdefault(owner, each.binding)
    return found


def _plain(command: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(re.sub(r"\d+", "#", word) for word in command)
