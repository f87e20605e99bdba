"""What a command leaves on a terminal of 80 columns and 24 rows: tmux(1) draws it."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import uuid

from tests.lab.cli import COMMAND
from tests.lab.processes import unavailable, wait_until

_END = "-- that was all --"


class Screen:
    """Each command gets a terminal of its own."""

    def __init__(self, tmux: str) -> None:
        self._tmux = tmux

    def __call__(self, *words: str, environment: str = "", cwd: str = "/") -> str:
        """What the command leaves, with its colours; rows are as they are on the terminal."""
        line = f"cd {shlex.quote(cwd)}; {environment} {COMMAND} {shlex.join(words)}"
        server = (self._tmux, "-L", f"lab{uuid.uuid4().hex[:10]}", "-f", "/dev/null")

        def ran(*arguments: str) -> str:
            argv = [*server, *arguments]
            return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

        def seen() -> str:
            return ran("capture-pane", "-e", "-p", "-S", "-")

        ran("new-session", "-d", "-x", "80", "-y", "24", f"{line}; echo; echo {_END}; sleep 60")
        try:
            wait_until(lambda: _END in seen(), "the command has ended")
            return seen().partition(_END)[0]
        finally:
            ran("kill-server")


def screen() -> Screen:
    """A terminal to run commands on."""
    return Screen(shutil.which("tmux") or unavailable("tmux(1) is missing"))


def plain(text: str) -> list[str]:
    """The rows without their colours."""
    return re.sub(r"\x1b\[[0-9;]*m|\x0f", "", text).rstrip("\n").split("\n")
