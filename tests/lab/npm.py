"""Programs from npm, installed once for each run of the tests."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from tests.lab.processes import unavailable


@cache
def install(package: str, program_name: str = "") -> Path:
    """The program that an npm package brings; all workers share it.

    `package` may have a version, as in `vite@5`; the program has its name unless another is given.
    """
    npm = shutil.which("npm")
    if npm is None:
        unavailable("npm is missing")
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    place = os.environ.get("ULTRA_PORTS_TESTS_NPM", tempfile.gettempdir())
    folder = Path(place) / f"ultra-ports-npm-{run}"
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "node_modules" / ".bin" / (program_name or package.partition("@")[0])
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            words = ["install", "--no-fund", "--no-audit", "--silent", "--prefix", str(folder)]
            subprocess.run([npm, *words, package], check=True, timeout=100)
    return program
