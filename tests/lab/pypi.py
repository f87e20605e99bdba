"""Programs from PyPI that would be much in the tests' own environment: installed when first needed.

They have a virtual environment of their own, inside the tests' one, so that nothing that they need
can be in the way of what the project needs.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
import venv
from functools import cache
from pathlib import Path


@cache
def install(package: str, program_name: str = "") -> Path:
    """The program that a package brings; all workers share it, and later runs.

    The program has the package's name unless another is given.
    """
    folder = Path(sys.prefix) / "programs"
    folder.mkdir(exist_ok=True)
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
