"""What a person sees while steps are applied: progress on a terminal, questions, Ctrl-C."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Self

import typer

from resolver.cli import fit, say, terminal_width
from resolver.cli.output import ask, is_yes, style
from resolver.model import ExitStatus, KillStep
from resolver.report.escape import escape
from resolver.report.steps import action, under_way
from resolver.report.story import before

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.model import Classification, Outcome, Step

_PATIENCE_SECONDS = 0.5  # of waiting that need no explanation


class StatusLine:
    """One line on stderr that is rewritten, on a terminal only."""

    def __init__(self, *, shows: bool = True) -> None:
        self._shows = shows and sys.stderr.isatty()
        self._shown = ""
        self._longest = 0.0

    def waits(self, text: str, seconds_left: float) -> None:
        """Says what is waited for, and for how long yet."""
        self._longest = max(self._longest, seconds_left)
        if self._shows and self._longest - seconds_left >= _PATIENCE_SECONDS:
            end = f", {seconds_left:.0f} s left"
            # it is one row, or stays behind
            room = (terminal_width(sys.stderr) or 0) - len(end) - 2
            line = fit(escape(text, max(room, 0)) + end)
            if line != self._shown:
                print(f"\r{line:<{len(self._shown)}}", end="", file=sys.stderr, flush=True)
                self._shown = line

    def clear(self) -> None:
        """Takes the line away; the next wait has its own time."""
        if self._shown:
            print(f"\r{'':<{len(self._shown)}}\r", end="", file=sys.stderr, flush=True)
        self._shown = ""
        self._longest = 0.0

    def leave(self) -> None:
        """Leaves the line as it is, and begins a new one."""
        if self._shown:
            print(file=sys.stderr)
        self._shown = ""


class Terminal:
    """An observer that talks on stderr.

    Within it, Ctrl-C is answered with what was done, and what goes on without us.
    """

    def __init__(self, *, asks: bool) -> None:
        self._asks = asks
        self._line = StatusLine()
        self._running: Step | None = None
        self._done: list[str] = []
        self._begun: list[str] = []  # of the running step
        self._seconds_left = 0.0

    def objection(self, step: Step, holders: Sequence[Classification]) -> str:
        """Asks, where the user wants to be asked; no answer is a no."""
        if not self._asks:
            return ""
        self._line.clear()
        print(fit(before(step, holders, style())), file=sys.stderr)
        ends = "End" if isinstance(step, KillStep) else "Stop"
        answer = ask(f"{ends} it? [y/N]")
        if is_yes(answer):
            return ""
        return "you said no" if answer else "nobody answered"

    def started(self, step: Step) -> None:
        """Remembers what is under way, for Ctrl-C."""
        self._running, self._seconds_left = step, 0.0

    def did(self, action: str) -> None:
        """Remembers it, for Ctrl-C."""
        logging.getLogger(__name__).info("did: %s", action)
        (self._begun if self._running else self._done).append(escape(action))

    def waiting(self, what: str, seconds_left: float) -> None:
        """One line that is rewritten, on a terminal only."""
        self._seconds_left = seconds_left
        self._line.waits(f"waiting for {escape(what, 60)}", seconds_left)

    def finished(self, outcome: Outcome) -> None:
        """Remembers it, for Ctrl-C."""
        self._done += [*self._begun, f"{describe(outcome.step)}: {outcome.result}"]
        self._running, self._begun = None, []
        self.clear()

    def clear(self) -> None:
        """Takes the line of a wait away."""
        self._line.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if not isinstance(error, KeyboardInterrupt):
            return
        done = list(self._done)
        if self._running is not None and self._begun:
            done.append(under_way(self._running, self._begun, self._seconds_left))
        elif self._running is not None:
            done.append(f"{describe(self._running)}: not finished")
        said = "; ".join(done) or "nothing was done yet"
        self._line.leave()
        say([f"interrupted: {said}"])
        raise typer.Exit(ExitStatus.INTERRUPTED) from error


def describe(step: Step) -> str:
    """What a step does, in a few words: `end node 4711 on 127.0.0.1:8085/tcp`."""
    return f"{escape(action(step))} on {', '.join(map(str, step.bindings))}"
