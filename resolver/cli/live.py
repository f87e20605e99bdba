"""The live view of `ultra-ports watch`, on a terminal that is left as it was found."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from collections import deque
from itertools import compress
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from resolver.cli import fit
from resolver.report.events import HEADERS, description, moment, row

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

    from resolver.health.watch import Watch

_KEPT = 200  # events
_SHARE = 3  # of the screen's lines, this part is the events'
_CUT_FIRST = {"HOLDER", "RESERVED FOR"}  # columns, on a narrow terminal
_WHERE_FILLED = {"RESPAWNS", "RESERVED FOR"}
_QUIT = {b"q", b"Q"}
_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Ended(Exception):  # noqa: N818 - no error
    """A signal asks for the end; `number` is which one."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Screen:
    """The terminal of stdout, with keys from stdin where that is one too.

    Signals are heeded while it waits, so that nothing is half drawn then.
    """

    def __init__(self) -> None:
        self.console = Console(markup=False, highlight=False, color_system=None)
        self._live = Live(
            console=self.console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._keys = sys.stdin.fileno() if sys.stdin.isatty() else -1
        self._modes: list[Any] = termios.tcgetattr(self._keys) if self._keys >= 0 else []
        self._woken, self._waking = os.pipe()
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for end in (self._woken, self._waking):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._waking, warn_on_full_buffer=False)
        for number in (signal.SIGWINCH, signal.SIGTSTP, *_ENDING):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup(1) stays in force
                self._handlers[number] = signal.signal(number, lambda *_: None)
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._woken)
        os.close(self._waking)

    def draw(self, view: RenderableType) -> None:
        """Replaces what is shown; what does not fit is cut."""
        self._live.update(view, refresh=True)

    def wait(self, seconds: float) -> bool:
        """Waits for a key or a signal; False where the user wants to leave.

        Raises:
            Ended: a signal says that it is to end.
        """
        watched = [self._woken, *([self._keys] if self._keys >= 0 else [])]
        readable, _, _ = select.select(watched, [], [], seconds)
        if self._woken in readable:
            self._got(os.read(self._woken, 512))
        if self._keys in readable:
            typed = os.read(self._keys, 64)
            if not typed:  # the terminal has gone
                return False
            return not any(bytes([key]) in _QUIT for key in typed)
        return True

    def _got(self, numbers: bytes) -> None:
        for number in numbers:
            if number in _ENDING:
                raise Ended(number)
            if number == signal.SIGTSTP:
                self._suspend()

    def _suspend(self) -> None:
        """Stops as the shell's job control wants it, with the terminal in its own order."""
        self._end()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, lambda *_: None)
        self._begin()

    def _begin(self) -> None:
        if self._keys >= 0:
            tty.setcbreak(self._keys, termios.TCSADRAIN)  # Ctrl-C and Ctrl-Z stay what they are
        self._live.start(refresh=True)

    def _end(self) -> None:
        with contextlib.suppress(OSError):
            self._live.stop()
        if self._keys >= 0:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._keys, termios.TCSADRAIN, self._modes)


def show(watching: Watch, interval: float) -> None:
    """Draws until the user types q, or this process is interrupted."""
    try:
        _draw_until_left(watching, interval)
    except Ended as ended:  # as if it had not been caught: whoever waits for us sees the signal
        signal.signal(ended.number, signal.SIG_DFL)
        os.kill(os.getpid(), ended.number)


def _draw_until_left(watching: Watch, interval: float) -> None:
    past: deque[tuple[float, str]] = deque(maxlen=_KEPT)
    shown: object = None
    with Screen() as screen:
        staying = True
        while staying:
            news = (each for each in watching.look() if each.kind not in {"held", "free"})
            past += ((each.at, description(each)) for each in news)
            size = screen.console.size
            rows, events = _content(watching, past, size.height)
            if (rows, events, size) != shown:  # to draw costs more than to look
                screen.draw(_view(rows, events))
                shown = (rows, events, size)
            staying = screen.wait(interval)


def _content(
    watching: Watch, past: Iterable[tuple[float, str]], height: int
) -> tuple[list[tuple[str, ...]], list[str]]:
    """The rows of the table and the events for a screen of so many lines."""
    day = time.strftime("%Y-%m-%d")
    rows = [row(each, watching.lease_on(each.request), day) for each in watching.histories]
    rows = [each for each in rows if watching.is_narrow or each[1] == "held"]
    events = [f"{moment(at, day)} {said}" for at, said in past]
    for_events = min(len(events), max(height // _SHARE, height - len(rows) - 4))
    room = max(2, height - for_events - 3)
    if len(rows) > room:
        rows = [*rows[: room - 1], (f"… {len(rows) - room + 1} more",)]
    return rows, events[len(events) - for_events :]


def _view(rows: list[tuple[str, ...]], events: list[str]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="")
    filled = {
        header for cells in rows for header, cell in zip(HEADERS, cells, strict=False) if cell
    }
    shown = [header not in _WHERE_FILLED or header in filled for header in HEADERS]
    for header in compress(HEADERS, shown):
        table.add_column(header, no_wrap=header not in _CUT_FIRST, overflow="crop")
    for cells in rows:
        table.add_row(*map(_text, compress(cells, shown)))
    below = ("", *events, "q ends it; nothing is touched")
    return Group(table, *map(_text, below))


def _text(text: str) -> Text:
    return Text(fit(text), no_wrap=True, overflow="crop")
