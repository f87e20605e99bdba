"""Shells, and others, that go on though what they had started was ended. Read-only.

A loop that sleeps between two servers leaves its port free for longer than the settle time. What
tells it is not its text, which an interactive shell does not show, but what the shell does next.
"""

from __future__ import annotations

from itertools import pairwise, takewhile
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver import verify
from resolver.ancestry import is_supervisor
from resolver.host import jobs
from resolver.host.identity import is_alive
from resolver.host.processes import children
from resolver.model import KillStep
from resolver.programs import (
    STARTERS,
    is_fork,
    is_interactive,
    is_shell,
    is_wrapper,
    known_as,
    untouchable,
)
from resolver.settings import SHELL_SECONDS, WATCH_INTERVAL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from resolver.model import (
        Diagnosis,
        Pid,
        PortRequest,
        Process,
        ProcessIdentity,
        Snapshot,
        Step,
        Successor,
    )
    from resolver.protocols import Clock, Watcher

_NEAR = 12  # so many parents are looked at: loop → npm → sh → npm → sh → npm → sh → node
_SURE = 2  # looks in a row: between two commands of a loop, a shell seems to be at its prompt


class ShellJob(Struct, frozen=True):
    """A shell above a process that is to be ended, and its child on that line, before the steps.

    `controls`: it does job control, by which each job has a process group of its own (setpgid(2)).
    `in_foreground`: that group was its terminal's. `is_fork`: it is a subshell.
    """

    step: Step
    shell: Process
    child: ProcessIdentity
    controls: bool
    in_foreground: bool
    is_fork: bool

    def moved_on(self, successors: Iterable[Successor]) -> bool:
        """Whether it is known by now what this shell went on with: the same on another port."""
        theirs = (each.starter for each in successors if each.binding and each.alike)
        return any(each is not None and each.identity == self.shell.identity for each in theirs)

    def goes_on(self, earlier: Collection[Pid]) -> bool:
        """Whether the shell has more to do, now that its child has ended.

        One with job control has its terminal back at its prompt (tcsetpgrp(3)). Another one ends
        with its work; where it only waits for a child that it had `earlier`, it is no loop.
        """
        if not is_alive(self.shell.identity) or jobs.has_ended(self.shell.pid):
            return False
        if is_alive(self.child):
            return False
        if self.controls:
            return self.in_foreground and not jobs.has_terminal(self.shell.pid)
        running = children(self.shell.pid)
        if running:
            return any(pid not in earlier for pid in running)
        return self.is_fork or not is_interactive(self.shell)


def before(diagnosis: Diagnosis) -> tuple[ShellJob, ...]:
    """The shells above those that are to be ended; the caller's own are left out."""
    steps = [each for each in diagnosis.plan.steps if isinstance(each, KillStep)]
    return tuple(found for step in steps for found in _jobs(step, diagnosis.snapshot))


def _jobs(step: KillStep, snapshot: Snapshot) -> Iterator[ShellJob]:
    ended = {each.identity for each in step.members}
    for master in step.masters:
        for child, above in pairwise(master.line[: _NEAR + 1]):
            shell = snapshot.process(above)
            if shell is None or above in ended or above in snapshot.own or not is_shell(shell):
                continue
            group = jobs.group(child.pid)
            yield ShellJob(
                step,
                shell,
                child,
                controls=group != jobs.group(above.pid),
                in_foreground=group == jobs.terminal_group(above.pid),
                is_fork=is_fork(shell, snapshot.process(shell.parent)),
            )


class Starter(Struct, frozen=True):
    """Programs above a process that is to be ended, the nearest first: any of them may go on."""

    step: Step
    child: ProcessIdentity
    above: tuple[Process, ...]

    def lives_on(self) -> Process | None:
        """The nearest that is still there, though its child has ended; no shell, and no host."""
        if is_alive(self.child) and not jobs.has_ended(self.child.pid):
            return None
        nearest = next(filter(_goes_on, self.above), None)
        return None if nearest is None or _hosts(nearest) else nearest


def starters(diagnosis: Diagnosis) -> tuple[Starter, ...]:
    """Who started those that are to be ended, up to this command's own line and what is ended."""
    steps = [each for each in diagnosis.plan.steps if isinstance(each, KillStep)]
    known = {1, *(each.pid for each in diagnosis.snapshot.own)}
    known.update(each.pid for step in steps for each in step.members)
    return tuple(
        Starter(
            step,
            master.identity,
            tuple(takewhile(lambda e: e.pid not in known, diagnosis.snapshot.above(master))),
        )
        for step in steps
        for master in step.masters
    )


def _goes_on(process: Process) -> bool:
    """Whether it is still there; what runs just one program is about to end."""
    return (
        is_alive(process.identity) and not jobs.has_ended(process.pid) and not is_wrapper(process)
    )


def _hosts(process: Process) -> bool:
    """Whether it runs other people's work, or is asked by its own classifier."""
    return (
        is_shell(process)
        or known_as(process, STARTERS)
        or is_supervisor(process)
        or untouchable(process)
    )


def watch(
    requests: Collection[PortRequest],
    found: Collection[ShellJob],
    earlier: Collection[Pid],
    list_sockets: Watcher,
    clock: Clock,
) -> Mapping[Step, tuple[Process, ...]]:
    """Watches freed ports while one of these shells goes on, until a socket takes one of them.

    The shells that still go on when the time for that is over, by step.
    """
    deadline, at_rest = clock.monotonic() + SHELL_SECONDS, 0
    while found and at_rest < _SURE and not verify.taken(requests, list_sockets):
        busy = [each for each in found if each.goes_on(earlier)]
        at_rest = 0 if busy else at_rest + 1
        if busy and clock.monotonic() >= deadline:
            steps = dict.fromkeys(each.step for each in busy)
            return {step: tuple(e.shell for e in busy if e.step is step) for step in steps}
        if at_rest < _SURE:
            clock.sleep(WATCH_INTERVAL_SECONDS)
    return {}
