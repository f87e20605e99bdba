"""Whether /proc calls a process by the number that it has here: what a signal depends on."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from resolver.host.identity import is_process, proc_is_ours
from resolver.model import Pid

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it is about pidfds")


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["/bin/sleep", "60"]) as popen:
        yield popen
        popen.kill()


def test_a_pidfd_has_the_number_of_its_process_alone(child: subprocess.Popen[bytes]) -> None:
    handle = os.pidfd_open(child.pid)
    try:
        assert is_process(handle, Pid(child.pid))
        assert not is_process(handle, Pid(os.getpid()))
        assert not is_process(handle, Pid(child.pid + 1))
    finally:
        os.close(handle)


def test_what_is_no_descriptor_names_nobody() -> None:
    assert not is_process(2**20, Pid(os.getpid()))


def test_our_own_proc_is_ours() -> None:
    assert proc_is_ours()


# In a new PID namespace with the old /proc, until a process has the same number in both
BY_CHANCE = """
import os, sys
from resolver.host import identity
reader, writer = os.pipe()
for _ in range(5000):
    child = os.fork()
    if not child:
        outer = int(os.readlink("/proc/self"))
        os.write(writer, outer.to_bytes(8, "big"))
        os._exit((8 if identity.proc_is_ours() else 7) if outer == os.getpid() else 9)
    outer = int.from_bytes(os.read(reader, 8), "big")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 9:
        break
    with open("/proc/sys/kernel/ns_last_pid", "w") as last:
        last.write(str(outer))  # the next one gets the number behind it, here as there
sys.exit(status)
"""


@pytest.mark.root
def test_the_link_alone_can_agree_by_chance() -> None:
    inside = ("unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", BY_CHANCE)
    done = subprocess.run(inside, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 7, done.stderr
