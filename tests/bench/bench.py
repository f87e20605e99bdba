"""Runs contenders in turn, A B C A B C …, and compares the runs that stood side by side."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.rows import absent, compared
from tests.lab.cli import COMMAND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.bench.rows import Row

ROOT = Path(__file__).parents[2]
LONGEST_SECONDS = 60.0  # for one run
FEWEST = 5  # pairs, however long they take
# What would make one Python slower than another, or measure it, is not handed on.
_DROPPED = ("PYTHON", "COVERAGE", "PYTEST", "ULTRA_PORTS", "DOCKER_HOST")


class UnavailableError(Exception):
    """The case cannot be set up here; the message says why."""


def nothing() -> None:
    """Before a run that needs nothing."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One command line.

    Attributes:
        before: is called, untimed, right before each run.
        statuses: what it may exit with.
        names: what its output has to name, or the answer was wrong.
        aside: is called after each run; the seconds in it that were somebody else's.
    """

    label: str
    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    before: Callable[[], object] = nothing
    statuses: tuple[int, ...] = (0,)
    names: Callable[[], set[int]] = set
    aside: Callable[[], float] = float


@dataclass(frozen=True, slots=True)
class Bench:
    """Where the contenders run, and how often.

    Attributes:
        folder: is empty, and goes at the end; whatever is written goes there.
        peers: a folder of installed peers, or None.
        pairs: how often each contender runs.
        short: whether tiny sizes will do.
    """

    folder: Path
    pairs: int = 15
    short: bool = False
    peers: Path | None = None
    case_seconds: float = 90.0

    @property
    def env(self) -> dict[str, str]:
        """For every contender: Python's bytecode is cached, in one place for all of them."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_DROPPED)}
        return kept | {
            "PYTHONPYCACHEPREFIX": str(self.folder / "bytecode"),
            "ULTRA_PORTS_STATE": str(self.folder / "state"),
            "LC_ALL": "C.UTF-8",
        }

    def ultra(self, *words: str, **rest: object) -> Contender:
        """`ultra-ports WORDS`, installed beside this Python."""
        label = " ".join(("ultra-ports", *words))
        return Contender(label, (COMMAND, *words), **rest)  # type: ignore[arg-type]

    def python(self, *packages: str) -> Contender:
        """How long it takes Python to start and load typer, and other packages beside it."""
        code = f"import {', '.join(('typer', *packages))}"
        return Contender(f'python -c "{code}"', (sys.executable, "-c", code))

    def start(self, contender: Contender, output: int) -> subprocess.Popen[bytes]:
        """Starts a contender as it is measured."""
        (self.folder / "empty").mkdir(exist_ok=True)
        return subprocess.Popen(
            contender.argv,
            env=self.env | contender.env,
            cwd=self.folder / "empty",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )

    def output(self, argv: Sequence[str], env: dict[str, str] | None = None) -> str:
        """What a program of ours prints; it must not fail."""
        whole = self.env | (env or {})
        done = subprocess.run(argv, env=whole, check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout

    def complaint(self, contender: Contender) -> str | None:
        """Runs it once, which fills caches; says what is wrong with its answer, if anything."""
        contender.before()
        wanted = contender.names()
        popen = self.start(contender, subprocess.PIPE)
        out, err = popen.communicate(timeout=LONGEST_SECONDS)
        contender.aside()
        if popen.returncode not in contender.statuses:
            said = (err or out).decode(errors="replace").strip().splitlines()[-1:]
            return f"exit status {popen.returncode} {' '.join(said)[:80]}"
        named = {int(word) for word in _numbers((out + err).decode(errors="replace"))}
        return f"does not name {sorted(wanted - named)}" if wanted - named else None

    def seconds(self, contender: Contender) -> float:
        """How long one run takes, from its start to its end.

        Raises:
            UnavailableError: it failed, so its time means nothing.
        """
        contender.before()
        begun = time.perf_counter()
        popen = self.start(contender, subprocess.DEVNULL)
        status = _ended(popen)
        spent = time.perf_counter() - begun
        if status not in contender.statuses:
            raise UnavailableError(f"{contender.label} exited with {status}")
        return max(spent - contender.aside(), 1e-6)

    def compare(
        self, case: str, ours: Contender, others: Sequence[tuple[Contender, float | None]]
    ) -> Iterator[Row]:
        """Ours against each of the others, with the largest ratio that is good enough.

        Raises:
            UnavailableError: ours gave a wrong answer.
        """
        if wrong := self.complaint(ours):
            raise UnavailableError(f"{ours.label}: {wrong}")
        wrongs = {other.label: self.complaint(other) for other, _ in others}
        fit = [each for each in others if not _failed(wrongs[each[0].label])]
        runs = self.in_turn([ours, *(other for other, _ in fit)])
        for number, (other, target) in enumerate(fit, start=1):
            wrong = wrongs[other.label]
            name = f"{other.label} ({wrong})" if wrong else other.label
            yield compared((case, ours.label, name), runs[0], runs[number], target)
        for other, _ in others:
            if _failed(wrong := wrongs[other.label]):
                yield absent(case, ours.label, f"{other.label}: {wrong}")

    def in_turn(self, contenders: Sequence[Contender]) -> list[list[float]]:
        """The seconds of each contender, run by run; every other round goes backwards."""
        runs: list[list[float]] = [[] for _ in contenders]
        deadline = time.monotonic() + self.case_seconds
        for number in range(self.pairs):
            order = list(enumerate(contenders))
            for place, contender in order if number % 2 else reversed(order):
                runs[place].append(self.seconds(contender))
            if time.monotonic() > deadline and number + 1 >= FEWEST:
                break
        return runs


def _ended(popen: subprocess.Popen[bytes]) -> int:
    """The exit status, as soon as there is one; `wait` with a timeout looks ever more seldom."""
    watchdog = threading.Timer(LONGEST_SECONDS, popen.kill)
    watchdog.start()
    try:
        return popen.wait()
    finally:
        watchdog.cancel()


def _failed(complaint: str | None) -> bool:
    return complaint is not None and complaint.startswith("exit")


def _numbers(text: str) -> Iterator[str]:
    """Every run of digits in a text."""
    word = ""
    for character in f"{text} ":
        if character in "0123456789":
            word += character
        elif word:
            yield word
            word = ""
