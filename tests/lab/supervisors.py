"""Real supervisors of the daemontools family: runit, s6 and daemontools, each in a directory.

Each of them supervises one service, `web`, below a scanner, as on a real machine. Its run script is
the test's; nothing here needs root, or touches the machine's own services.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

from tests.lab.processes import ROOT, Lab, unavailable, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import psutil


class Programs(NamedTuple):
    """The programs of one family, and the words that they know.

    `started` and `stopped` are what `status` must say; `once` makes it start, and not start again.
    """

    name: str
    scanner: tuple[str, ...]
    supervisor: str
    status: tuple[str, ...]
    up: tuple[str, ...]
    once: tuple[str, ...]
    stop: str
    packages: str


RUNIT = Programs(
    name="runit",
    scanner=("runsvdir", "-P"),
    supervisor="runsv",
    status=("sv", "status"),
    up=("sv", "up"),
    once=("sv", "once"),
    stop="sv -w 60 stop {}",
    packages="runit",
)
S6 = Programs(
    name="s6",
    scanner=("s6-svscan",),
    supervisor="s6-supervise",
    status=("s6-svstat",),
    up=("s6-svc", "-u"),
    once=("s6-svc", "-o"),
    stop="s6-svc -wD -T 60000 -d {}",
    packages="s6",
)
DAEMONTOOLS = Programs(
    name="daemontools",
    scanner=("svscan",),
    supervisor="supervise",
    status=("svstat",),
    up=("svc", "-u"),
    once=("svc", "-o"),
    stop="svc -d {}",
    packages="daemontools",
)


class Supervisors(Lab):
    """Runs a service of one family; `folder` is its service directory."""

    def __init__(self, directory: Path, programs: Programs) -> None:
        super().__init__(directory)
        self.programs = programs
        self.scanned = directory / "services"
        self.folder = self.scanned / "web"
        for program in (programs.scanner, programs.status, programs.up):
            if shutil.which(program[0]) is None:
                unavailable(f"{program[0]} is missing (Debian: {programs.packages})")

    def start_service(self, script: str, *, log: str | None = None) -> None:
        """Starts the scanner, and waits until the service is supervised."""
        write(self.folder / "run", script)
        if log is not None:
            write(self.folder / "log" / "run", log)
        argv = (*self.programs.scanner, str(self.scanned))
        self._popen(argv, self._directory / "scanner.log", {})
        wait_until(lambda: self.says("up (") or self.says("run: "), "the service is supervised")

    def call(self, words: tuple[str, ...]) -> str:
        """What one of the family's commands says about the service."""
        argv = (*words, str(self.folder))
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def says(self, words: str) -> bool:
        """Whether the family's status command says this of the service."""
        return words in self.call(self.programs.status)

    @property
    def supervisor(self) -> psutil.Process:
        """The process that supervises the service itself, and not its log."""
        (found,) = (
            process
            for process in self.processes()
            if process.name() == self.programs.supervisor and process.cwd() == str(self.folder)
        )
        return found


def write(script: Path, text: str) -> None:
    """Writes an executable shell script."""
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    script.chmod(0o755)


def serving(port: int, prefix: str = "") -> str:
    """The command line of a lab server on every IPv4 address of the port; `prefix` runs it."""
    server = "-B -S -m tests.lab.servers.answering"
    start = f"{prefix} {sys.executable} {server} {port} --tcp 0.0.0.0 >{os.devnull}"
    return f"env PYTHONPATH={ROOT} {start.strip()}"
