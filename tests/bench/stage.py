"""What the cases are set up with: crowds, cgroups, listeners. All of it goes at the end."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.bench import ROOT, UnavailableError
from tests.lab.processes import remove_cgroup

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.processes import Server


@contextlib.contextmanager
def actor(name: str, *words: int) -> Iterator[subprocess.Popen[str]]:
    """A program of `actors/` that has said it is ready; it ends when its stdin does."""
    popen = subprocess.Popen(
        [sys.executable, "-S", "-m", f"tests.bench.actors.{name}", *map(str, words)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with popen:
        try:
            if not said(popen):
                raise UnavailableError(f"the {name} could not be made: a limit of this machine")
            yield popen
        finally:
            popen.communicate()


def said(popen: subprocess.Popen[str]) -> str:
    """The next line of an actor; empty where it has ended."""
    assert popen.stdout is not None
    return popen.stdout.readline().strip()


def tell(popen: subprocess.Popen[str], number: int) -> None:
    """Tells an actor a number, and waits until it has done so."""
    assert popen.stdin is not None
    popen.stdin.write(f"{number}\n")
    popen.stdin.flush()
    assert said(popen) == str(number)


def unified() -> Path:
    """Where cgroup v2 is mounted.

    Raises:
        UnavailableError: nowhere, or it is not ours to write.
    """
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line:
            mount = Path(line.split()[4])
            if os.access(mount / "cgroup.procs", os.W_OK):
                return mount
    raise UnavailableError("no cgroup v2 that this user may write to")


@contextlib.contextmanager
def own_cgroup() -> Iterator[tuple[str, ...]]:
    """A command that runs another in a cgroup of its own; use it around the lab."""
    folder = unified() / f"bench{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    try:
        yield inside(folder)
    finally:
        remove_cgroup(folder)


def inside(folder: Path) -> tuple[str, ...]:
    """A command that runs another in the cgroup; where its id tells nothing, in the root."""
    return ("sh", "-c", f'echo $$ >{folder}/cgroup.procs; exec "$@"', "sh")


def everyone(server: Server) -> set[int]:
    """The PIDs of a prefork server: its own, and its workers'."""
    return {server.pid, *server.facts["workers"]}
