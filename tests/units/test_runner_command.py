"""Commands that are run: a question that is not answered in time leaves nobody behind."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from resolver.errors import CommandFailedError
from resolver.host.runner import run_command
from tests.lab.processes import alive, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.processes import Lab

FAMILY = 'sleep 600 & echo $! >"$0"; wait'  # as `docker` starts its plug-ins
RUNS = "import sys; from resolver.host.runner import run_command as run; "
RUNS += "run(['sh', '-c', sys.argv[1], sys.argv[2]], timeout_seconds=60)"


def test_output_and_status() -> None:
    done = run_command(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout_seconds=5)
    assert (done.status, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(CommandFailedError, match="No such file"):
        run_command(["/nonexistent/tool"], timeout_seconds=5)


def test_its_children_end_with_it(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with pytest.raises(CommandFailedError, match="did not answer in 1 s"):
        run_command(["sh", "-c", FAMILY, str(pid)], timeout_seconds=1)
    wait_until(lambda: not alive(int(pid.read_text())), "the child of the command has ended")


def test_an_interrupted_question_leaves_nobody(lab: Lab, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    asking = lab.command(sys.executable, "-c", RUNS, FAMILY, str(pid))
    wait_until(lambda: pid.exists() and pid.read_text(), "the command runs")
    os.kill(asking.pid, signal.SIGINT)
    asking.wait(timeout=10)
    assert asking.returncode != 0
    wait_until(lambda: not alive(int(pid.read_text())), "the child of the command has ended")
