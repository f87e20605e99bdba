"""Watches a run of the pipeline in this process: each call, plan, signal and proof of it."""

from __future__ import annotations

import itertools
import os
import re
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import resolver
from resolver import verify
from resolver.model import KillStep
from resolver.strategies.choose import choose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    import pytest

    from resolver.model import Plan, PortRequest, Proof
    from resolver.protocols import Watcher

PACKAGE = str(Path(resolver.__file__).parent)
HASTE = 8.0  # the pipeline's clock goes so much faster than ours: patience is not what is tested


@dataclass
class Witness:
    """What was planned and done; the last proof, wait and fault are moments in its own count."""

    planned: set[int] = field(default_factory=set)
    sent: set[int] = field(default_factory=set)
    proved_at: int = -1
    waited_at: int = -1
    faulted_at: int = -1
    moments: Iterator[int] = field(default_factory=itertools.count)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Puts itself between the pipeline and its planner, its proof, and the kernel's signals."""
        prove, kill = verify.prove, os.kill
        send: Callable[[int, int], None] = getattr(signal, "pidfd_send_signal")  # noqa: B009 - Linux

        def watched_choose(*arguments: Any) -> Plan:  # noqa: ANN401
            plan = choose(*arguments)
            steps = [step for step in plan.steps if isinstance(step, KillStep)]
            self.planned |= {found.pid for step in steps for found in step.members}
            return plan

        def watched_prove(request: PortRequest, watcher: Watcher) -> Proof:
            self.proved_at = next(self.moments)
            return prove(request, watcher)

        def watched_send(handle: int, number: int) -> None:
            self._sees(_pid_behind(handle), number)
            send(handle, number)

        def watched_kill(pid: int, number: int) -> None:
            if number:
                self._sees(pid, number)
            kill(pid, number)

        monkeypatch.setattr("resolver.pipeline.choose", watched_choose)
        monkeypatch.setattr(verify, "prove", watched_prove)
        monkeypatch.setattr(signal, "pidfd_send_signal", watched_send)
        monkeypatch.setattr(os, "kill", watched_kill)

    def faulted(self) -> None:
        """The fault has happened."""
        self.faulted_at = next(self.moments)

    def _sees(self, pid: int, number: int) -> None:
        """A signal is about to be sent; PID -1 is a process that has gone already."""
        assert pid == -1 or pid in self.planned, f"signal {number} to {pid}, which was not planned"
        self.sent.add(pid)


def _pid_behind(handle: int) -> int:
    """The process of a pidfd (proc_pid_fdinfo(5)); -1 where it has gone."""
    text = Path(f"/proc/self/fdinfo/{handle}").read_text(encoding="ascii")
    found = re.search(r"^Pid:\s+(-?\d+)$", text, re.MULTILINE)
    assert found is not None, text
    return int(found[1])


class Calls:
    """Hears each call into the package: `then` is told the function's name, and the how-manieth."""

    def __init__(self, then: Callable[[str, int], None]) -> None:
        self._counted: Counter[str] = Counter()
        self._then = then

    def __enter__(self) -> Self:
        sys.setprofile(self._seen)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _seen(self, frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(PACKAGE):
            return
        name = f"{code.co_filename[len(PACKAGE) + 1 :]}:{code.co_qualname}"
        self._counted[name] += 1
        self._then(name, self._counted[name])


class HastyClock:
    """Monotonic time, sped up; the witness knows when somebody waited."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    def monotonic(self) -> float:
        """Monotonic seconds, short ones."""
        return time.monotonic() * HASTE

    def sleep(self, seconds: float) -> None:
        """Waits."""
        self._witness.waited_at = next(self._witness.moments)
        time.sleep(seconds / HASTE)
