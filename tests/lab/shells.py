"""The shells that users have, and scripts run in them with `ultra-ports` on the search path."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.cli import Run
from tests.lab.processes import ROOT, unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

SCRIPTS = ROOT / "scripts"
WEBAPP = ROOT / "tests" / "lab" / "webapp"
BIN = Path(sys.executable).parent
SHELLS: dict[str, tuple[str, ...]] = {
    "bash": ("bash", "--norc", "--noprofile"),
    "bash-posix": ("bash", "--norc", "--noprofile", "--posix"),
    "zsh": ("zsh", "-f"),
    "dash": ("dash",),
    "busybox": ("busybox", "sh"),
}
"""Each shell without its user's start-up files; `bash-posix` is what macOS calls sh."""


def shell(name: str) -> tuple[str, ...]:
    """The command line of a shell; skips the test where it is missing."""
    words = SHELLS[name]
    if shutil.which(words[0]) is None:
        unavailable(f"{words[0]} is missing")
    return words


def environment(**variables: str) -> dict[str, str]:
    """This process's, with `ultra-ports` and `python` found first, and no port of a project."""
    kept = {key: text for key, text in os.environ.items() if not key.endswith("_PORT")}
    return {**kept, "PATH": f"{BIN}:{os.environ['PATH']}", **variables}


def run(
    *argv: str,
    cwd: Path = WEBAPP,
    env: Mapping[str, str] | None = None,
    prefix: tuple[str, ...] = (),
    timeout: float = 60.0,
) -> Run:
    """Runs a command line with the given variables; no traceback may come of it."""
    done = subprocess.run(
        [*prefix, *argv],
        cwd=cwd,
        env=environment(**(env or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Run(done.returncode, done.stdout, done.stderr)
