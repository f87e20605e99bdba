"""What is known of a process, whatever it does to its name, its folder and its program."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from resolver.gather.processes import describe
from resolver.host.identity import identify
from resolver.model import Pid, Process, ProcessIdentity
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


def facts(pid: int) -> Process:
    """What is known of a process; it has to live."""
    found = {each.pid: each for each in describe([identify(Pid(pid))])}
    return found[Pid(pid)]


def test_a_program_that_renamed_itself(lab: Lab) -> None:
    started = lab.command(sys.executable, "-c", RETITLED, env={"ODD": "a=b\nc", "EMPTY": ""})
    wait_until(lambda: b"(name)" in read(started.pid, "stat"), "it has its new name")
    found = facts(started.pid)
    assert found.name == "a (name) with\nm"
    assert found.variable("ODD") == "a=b\nc"
    assert found.parent is not None
    assert found.parent.pid == os.getpid()


def read(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb") as file:  # noqa: PTH123
        return file.read()


def test_a_long_name_and_bytes_that_are_no_text(lab: Lab, tmp_path: Path) -> None:
    program = tmp_path / "a-name-longer-than-the-kernel-keeps"
    program.symlink_to("/bin/sleep")
    started = lab.command(str(program), "600", env={"LATIN": os.fsdecode(b"\xe9")})
    wait_until(lambda: program.name == facts(started.pid).name, "it runs under its whole name")
    assert facts(started.pid).variable("LATIN") == os.fsdecode(b"\xe9")


def test_a_stopped_one_whose_folder_and_program_are_gone(lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    program = folder / "sleep"
    shutil.copy("/bin/sleep", program)
    started = lab.command(str(program), "600", cwd=folder)
    wait_until(lambda: facts(started.pid).executable == str(program), "it runs")
    os.kill(started.pid, signal.SIGSTOP)
    wait_until(lambda: psutil.Process(started.pid).status() == "stopped", "it is stopped")
    program.unlink()
    folder.rmdir()
    found = facts(started.pid)
    assert (found.stopped, found.cwd, found.executable) == (True, None, str(program))


def test_a_zombie(lab: Lab) -> None:
    started = lab.command("/bin/sleep", "600")
    os.kill(started.pid, signal.SIGKILL)
    wait_until(lambda: psutil.Process(started.pid).status() == "zombie", "it has ended")
    assert facts(started.pid).command == ()


def test_whose_it_is(lab: Lab) -> None:
    as_another = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    started = lab.command(*as_another, "sleep", "600")
    wait_until(lambda: facts(started.pid).name == "sleep", "it runs")
    found = facts(started.pid)
    assert (found.user, found.uid, found.uids) == ("nobody", 65534, (65534, 65534, 65534))


def test_another_process_with_the_pid_is_not_described() -> None:
    own = identify(Pid(os.getpid()))
    for other in (ProcessIdentity(own.pid, own.start_time + 1), ProcessIdentity(Pid(2**22), 1)):
        assert other not in {each.identity for each in describe([other])}
