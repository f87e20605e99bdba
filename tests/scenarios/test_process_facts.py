"""What is read from /proc about a process is what psutil says of it, whatever the process."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from resolver.errors import StateChangedError
from resolver.gather import portable, procfs
from resolver.gather.processes import ancestors_of
from resolver.host.identity import identify
from resolver.model import Pid, ProcessIdentity
from resolver.values import fields_of
from tests.lab.processes import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.processes import Lab

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it is about /proc")

RETITLED = """
import ctypes, sys, time
# what nginx and postgres do: the words are joined by spaces where the arguments were
libc = ctypes.CDLL(None)
libc.prctl(15, b"a (name) with\\nmore", 0, 0, 0)
time.sleep(600)
"""


def both(pid: int) -> list[dict[str, object]]:
    """The facts from the one way and from the other, by name; they agree on who that is."""
    identity = identify(Pid(pid))
    found = [way.describe(identity, ancestors_of(identity)) for way in (procfs, portable)]
    return [{name: getattr(each, name) for name in fields_of(each)} for each in found]


def test_a_program_that_renamed_itself(lab: Lab) -> None:
    started = lab.command(sys.executable, "-c", RETITLED, env={"ODD": "a=b\nc", "EMPTY": ""})
    wait_until(lambda: b"(name)" in read(started.pid, "stat"), "it has its new name")
    ours, theirs = both(started.pid)
    assert ours == theirs
    assert ours["name"] == "a (name) with\nm"
    assert ("ODD", "a=b\nc") in ours["environment"]  # type: ignore[operator]


def read(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb") as file:  # noqa: PTH123
        return file.read()


def test_a_long_name_and_bytes_that_are_no_text(lab: Lab, tmp_path: Path) -> None:
    program = tmp_path / "a-name-longer-than-the-kernel-keeps"
    program.symlink_to("/bin/sleep")
    started = lab.command(str(program), "600", env={"LATIN": os.fsdecode(b"\xe9")})
    wait_until(lambda: program.name in str(both(started.pid)[0]["name"]), "it runs")
    ours, theirs = both(started.pid)
    assert ours == theirs


def test_a_stopped_one_whose_folder_and_program_are_gone(lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    program = folder / "sleep"
    shutil.copy("/bin/sleep", program)
    started = lab.command(str(program), "600", cwd=folder)
    wait_until(lambda: str(both(started.pid)[0]["executable"]).startswith(str(folder)), "it runs")
    os.kill(started.pid, signal.SIGSTOP)
    wait_until(lambda: psutil.Process(started.pid).status() == "stopped", "it is stopped")
    program.unlink()
    folder.rmdir()
    ours, theirs = both(started.pid)
    assert ours == theirs
    assert (ours["stopped"], ours["cwd"], ours["executable"]) == (True, None, str(program))


def test_a_zombie(lab: Lab) -> None:
    started = lab.command("/bin/sleep", "600")
    os.kill(started.pid, signal.SIGKILL)
    wait_until(lambda: psutil.Process(started.pid).status() == "zombie", "it has ended")
    ours, theirs = both(started.pid)
    assert ours == theirs
    assert ours["command"] == ()


def test_every_program_of_this_machine() -> None:
    compared = 0
    for pid in psutil.pids():
        try:
            if not read(pid, "cmdline"):  # of the kernel, where psutil gives up
                continue
            ours, theirs = both(pid)
        except (StateChangedError, OSError):  # it ended meanwhile
            continue
        compared += bool(ours) and ours == theirs
    assert compared > 2


def test_another_process_with_the_pid_is_not_described() -> None:
    own = identify(Pid(os.getpid()))
    assert procfs.describe(ProcessIdentity(own.pid, own.start_time + 1), ()) is None
    assert procfs.describe(ProcessIdentity(Pid(2**22 + 1), 1), ()) is None
