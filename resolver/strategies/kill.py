"""End a process family: SIGTERM to its masters, patience, then SIGKILL to what stayed on the port.

The only module that signals. A process is signalled through a pidfd (pidfd_open(2)) that was opened
before its start time was checked again, so the signal cannot reach a later owner of the PID. Where
there are no pidfds, psutil compares the start time just before it signals.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psutil
from msgspec import Struct

from resolver.errors import StateChangedError
from resolver.host.descriptors import open_sockets
from resolver.host.identity import FOREIGN_PROC, identify, is_alive, is_process, proc_is_ours
from resolver.model import Outcome, Result
from resolver.settings import KILL_WAIT_SECONDS, WATCH_INTERVAL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.model import KillStep, Policy, Process
    from resolver.strategies import Effects

_FAREWELL_SECONDS = 1.0  # for a process that has let go of its port, to end where it can be seen


def kill(step: KillStep, policy: Policy, effects: Effects) -> Outcome:
    """Ends the step's masters and members, and nobody else; a process that has gone is success.

    One that has let go of the port, and is still busy with what it had begun, is left in peace.
    """
    if not proc_is_ours():
        return Outcome(step, Result.NOT_PERMITTED, f"nothing was signalled: {FOREIGN_PROC}")
    with ExitStack() as stack:
        try:
            targets = {found.identity: _Signalled.open(found, stack) for found in step.members}
        except PermissionError as error:
            return Outcome(step, Result.NOT_PERMITTED, str(error))
        masters = [targets[found.identity] for found in step.masters]
        run = _Run(step, policy, effects, list(targets.values()), [])
        if not any(target.exists() for target in run.targets):
            return Outcome(step, Result.GONE, "it had already ended")
        if not any(run.concerns(target) for target in run.targets):
            return Outcome(step, Result.GONE, "it had let go of the port by itself")
        try:
            return _end(run, masters)
        except PermissionError as error:
            return Outcome(step, Result.NOT_PERMITTED, str(error), tuple(run.actions))


class _Signalled(Struct):
    """A process to end; `handle` is its pidfd, None where the platform has none."""

    process: Process
    handle: int | None
    gone: bool

    @classmethod
    def open(cls, process: Process, stack: ExitStack) -> _Signalled:
        handle = None
        try:
            if sys.platform == "linux":
                handle = os.pidfd_open(process.pid)
                stack.callback(os.close, handle)
            gone = identify(process.pid) != process.identity
        except (ProcessLookupError, StateChangedError):
            gone = True
        except OSError:  # ENOSYS, or a sandbox: without a pidfd
            gone = not is_alive(process.identity)
        foreign = handle is not None and not is_process(handle, process.pid)
        if foreign and not gone and is_alive(process.identity):
            raise PermissionError(f"nothing was signalled: {FOREIGN_PROC}")
        return cls(process, handle, gone)

    def exists(self) -> bool:
        """Whether it still runs; a zombie does not."""
        if not self.gone:
            self.gone = self._has_ended()
        return not self.gone

    def _has_ended(self) -> bool:
        if self.handle is None:
            return _portably_ended(self.process)
        poll = select.poll()
        poll.register(self.handle, select.POLLIN)
        return bool(poll.poll(0))

    def signal(self, number: signal.Signals) -> None:
        """Sends one signal; nothing happens where the process has gone.

        Raises:
            PermissionError: this user may not.
        """
        try:
            if self.handle is not None and sys.platform == "linux":
                signal.pidfd_send_signal(self.handle, number)
            else:
                _portably_signal(self.process, number)
        except ProcessLookupError:
            self.gone = True
        except PermissionError as error:
            raise PermissionError(f"not permitted to signal {self.process}") from error


class _Run(Struct):
    """One kill in progress; `actions` grows with everything that is done."""

    step: KillStep
    policy: Policy
    effects: Effects
    targets: list[_Signalled]
    actions: list[str]

    def did(self, action: str) -> None:
        """Notes what was done, at once: the next moment may bring a Ctrl-C."""
        self.actions.append(action)
        self.effects.observer.did(action)

    def send(self, number: signal.Signals, targets: Iterable[_Signalled]) -> None:
        """Signals those that exist and are still concerned."""
        for target in targets:
            if self.concerns(target):
                target.signal(number)
                self.did(f"{number.name} to {target.process}")

    def wake(self) -> None:
        """Lets the stopped ones go on, so that they can react to being asked to end."""
        for target in self.targets:
            if target.process.stopped and target.exists():
                target.signal(signal.SIGCONT)
                self.did(f"SIGCONT to {target.process}, which was stopped")

    def concerns(self, target: _Signalled) -> bool:
        """Whether a process still holds the port, or would start another one that does.

        Where that cannot be seen, it counts as long as it exists.
        """
        if not target.exists():
            return False
        inodes = self.step.inodes
        if target.process.identity in self.step.respawners or not inodes or min(inodes) <= 0:
            return True
        found = open_sockets(target.process.pid, inodes)
        return bool(found) if found is not None else target.exists()

    def wait(self, targets: Iterable[_Signalled], deadline: float, what: str) -> bool:
        """True once all have ended, or let go and had a moment to end; False at the deadline."""
        waiting = list(targets)
        released = False
        while any(target.exists() for target in waiting):
            if not released and not any(self.concerns(target) for target in waiting):
                released = True
                deadline = min(deadline, self.effects.clock.monotonic() + _FAREWELL_SECONDS)
            left = deadline - self.effects.clock.monotonic()
            if left <= 0:
                return released
            self.effects.observer.waiting(what, left)
            self.effects.clock.sleep(min(WATCH_INTERVAL_SECONDS, left))
        return True

    def finish(self, begun: float, how: str = "ended", why: str = "") -> Outcome:
        """The outcome of a success: how they ended, and after what time."""
        took = self.effects.clock.monotonic() - begun
        busy = [str(target.process) for target in self.targets if target.exists()]
        reason = f"{how} after {took:.1f} s{why}"
        if busy:
            reason = f"released after {took:.1f} s; {', '.join(busy)} may finish what it had begun"
        return Outcome(self.step, Result.DONE, reason, tuple(self.actions))


def _end(run: _Run, masters: list[_Signalled]) -> Outcome:
    begun = run.effects.clock.monotonic()
    why = ""
    if not run.policy.force:
        grace_seconds = run.policy.grace_seconds + run.step.patience_seconds
        deadline = begun + grace_seconds
        what = f"{', '.join(str(target.process) for target in masters)} to end"
        run.send(signal.Signals[run.step.shutdown], masters)
        run.wake()
        if run.wait(masters, deadline, what) and _ended_with_masters(run, deadline):
            return run.finish(begun)
        if run.wait(run.targets, deadline, what):
            return run.finish(begun)
        if run.step.lenient:
            reason = f"still busy after {grace_seconds:g} s; {run.step.lenient}"
            return Outcome(run.step, Result.FAILED, reason, tuple(run.actions))
        why = f": it did not end within {grace_seconds:g} s"
    run.send(signal.SIGKILL, run.targets)
    killed = run.effects.clock.monotonic() + KILL_WAIT_SECONDS
    if run.wait(run.targets, killed, "the kernel to clean up"):
        return run.finish(begun, "killed", why)
    stuck = ", ".join(str(target.process) for target in run.targets if target.exists())
    reason = f"{stuck} did not end after SIGKILL (uninterruptible in the kernel?)"
    return Outcome(run.step, Result.FAILED, reason, tuple(run.actions))


def _ended_with_masters(run: _Run, deadline: float) -> bool:
    """Whether the workers ended with their masters; those that were left behind get a SIGTERM."""
    soon = min(deadline, run.effects.clock.monotonic() + run.policy.grace_seconds / 4)
    if run.wait(run.targets, soon, "its workers to end"):
        return True
    if run.step.lenient:
        return False
    run.send(signal.SIGTERM, run.targets)
    return False


def _portably_ended(process: Process) -> bool:
    try:
        status = psutil.Process(process.pid).status()
    except psutil.Error:
        return True
    return status == psutil.STATUS_ZOMBIE or not is_alive(process.identity)


def _portably_signal(process: Process, number: signal.Signals) -> None:
    try:
        source = psutil.Process(process.pid)
        if not is_alive(process.identity):
            raise ProcessLookupError
        source.send_signal(number)
    except psutil.AccessDenied as error:
        raise PermissionError from error
    except psutil.NoSuchProcess as error:
        raise ProcessLookupError from error
