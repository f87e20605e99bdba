"""A command on a terminal of its own (pty(7)), and what somebody types there when it asks."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import termios
import time
from typing import TYPE_CHECKING

from tests.lab.cli import COMMAND
from tests.lab.processes import READY_SECONDS

if TYPE_CHECKING:
    from pathlib import Path


def typed(
    *arguments: str,
    answers: dict[str, str] | None = None,
    cwd: Path,
    prefix: tuple[str, ...] = (),
    **variables: str,
) -> tuple[int, str]:
    """Runs `ultra-ports ARGUMENTS` on 24 lines of 80 columns; its exit status, and all it showed.

    Args:
        answers: to each question, the line that is typed once it is on the screen.
        cwd: where it is run.
        prefix: a command that runs it.
        variables: of its environment, beside our own.
    """
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(cwd)
        words = [*prefix, COMMAND, *arguments]
        os.execvpe(words[0], words, {**os.environ, **variables})  # noqa: S606
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    shown, asked = "", dict(answers or {})
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 0.1)[0]:
            continue
        try:
            shown += os.read(terminal, 65536).decode(errors="replace")
        except OSError:  # EIO: the last process has closed it
            break
        for question in [each for each in asked if each in shown]:
            os.write(terminal, f"{asked.pop(question)}\n".encode())
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert not asked, f"never asked: {asked}\n{shown}"
    return os.waitstatus_to_exitcode(status), shown.replace("\r\n", "\n")
