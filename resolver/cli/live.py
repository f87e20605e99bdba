"""The live view of `ultra-ports watch`: drawn on a terminal, which is left as it was found."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from resolver.cli.output import fit
from resolver.report.events import HEADERS, line, row
from resolver.report.table import columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.health.events import Event
    from resolver.health.watch import Watch

# ECMA-48 and xterm's control sequences: alternate screen, cursor, wrapping at the right edge
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
_KEPT = 200  # events
_SHARE = 3  # of the screen's lines, this part is the events'
_QUIT = {b"q", b"Q"}
_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Ended(Exception):  # noqa: N818 - no error
    """A signal asks for the end; `number` is which one."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Screen:
    """The terminal of stdout, with keys from stdin where that is one too."""

    def __init__(self) -> None:
        self._keys = sys.stdin.fileno() if sys.stdin.isatty() else -1
        self._modes: list[Any] = termios.tcgetattr(self._keys) if self._keys >= 0 else []
        self._woken, self._waking = os.pipe()
        self._handlers: dict[int, Any] = {}
        self._shown: tuple[str, os.terminal_size] | None = None

    def __enter__(self) -> Self:
        for end in (self._woken, self._waking):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._waking, warn_on_full_buffer=False)
        for number in (signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT, *_ENDING):
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

    def draw(self, lines: Iterable[str], size: os.terminal_size) -> None:
        """Replaces what is shown, if it is anything else; what does not fit the terminal cuts."""
        text = "".join(f"{line}{_REST_OF_LINE}\r\n" for line in lines).removesuffix("\r\n")
        if (text, size) != self._shown:
            _write(f"{_HOME}{text}{_REST_OF_SCREEN}")
            self._shown = (text, size)

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
        _write(_ENTER)
        self._shown = None

    def _end(self) -> None:
        with contextlib.suppress(OSError):
            _write(_LEAVE)
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
    past: deque[Event] = deque(maxlen=_KEPT)
    with Screen() as screen:
        staying = True
        while staying:
            past += (each for each in watching.look() if each.kind not in {"held", "free"})
            size = shutil.get_terminal_size()
            screen.draw((fit(line) for line in _lines(watching, past, size.lines)), size)
            staying = screen.wait(interval)


def _lines(watching: Watch, past: Iterable[Event], height: int) -> Iterator[str]:
    """What is shown, at most `height` lines."""
    rows = [row(story, watching.lease_on(story.request)) for story in watching.stories]
    rows = [each for each in rows if watching.is_narrow or each[1] == "held"]
    recent = [line(event) for event in past]
    for_events = min(len(recent), max(height // _SHARE, height - len(rows) - 4))
    room = max(1, height - for_events - 4)
    table = columns(HEADERS, rows).split("\n")
    yield from _cut(table, room + 1)
    yield ""
    yield from recent[len(recent) - for_events :]
    yield "q ends it; nothing is touched"


def _cut(lines: list[str], room: int) -> list[str]:
    if len(lines) <= room:
        return lines
    return [*lines[: room - 1], f"… {len(lines) - room + 1} more"]


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
