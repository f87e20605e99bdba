"""Programs from PyPI that would be much in the tests' own environment: installed once for each run.

They have a virtual environment of their own, so that nothing that they need can be in the way of
what the project needs.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import venv
from functools import cache
from pathlib import Path


@cache
def install(package: str, program_name: str = "") -> Path:
    """The program that a package brings; all workers share it.

    The program has the package's name unless another is given.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    place = os.environ.get("ULTRA_PORTS_TESTS_PYPI", tempfile.gettempdir())
    folder = Path(place) / f"ultra-ports-pypi-{run}"
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "bin" / (program_name or package)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        python = folder / "bin" / "python"
        if not python.exists():
            venv.create(folder, symlinks=True)
        if not program.exists():
            words = ("--python", str(python), "install", "--quiet", "--no-compile", package)
            subprocess.run([sys.executable, "-m", "pip", *words], check=True, timeout=100)
    return program
