"""Ports of what cron and at have started, with the real daemons."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.lab.cli import Run, reported, ultra
from tests.lab.jobs import atd, cron
from tests.lab.ports import free_port
from tests.lab.processes import MARK, ROOT, answered_by, stays_free, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.processes import Lab

pytestmark = [pytest.mark.slow, pytest.mark.root]

FAST = ("--settle", "1", "--grace", "2", "--no-docker", "--json")


def serving(port: int) -> str:
    """A job, in the words of a table."""
    server = f"{sys.executable} -B -S -m tests.lab.servers.answering {port}"
    return f"cd {ROOT} && {server} >/dev/null"


def freed(run: Run, port: int) -> dict[str, Any]:
    """Asserts that the port was freed, and stays so; returns its one holder."""
    report = reported(run, port, 0, "freed")
    assert stays_free(port)
    (found,) = report["holders"]
    assert isinstance(found, dict)
    assert found["kind"] == "local"
    return found


@pytest.mark.parametrize("wrapping", ["{}", "exec env -C / sh -c '{}; true'"])
def test_a_job_of_cron_is_ended_and_its_next_time_is_told(
    lab: Lab, tmp_path: Path, wrapping: str
) -> None:
    port = free_port()
    with cron(lab, tmp_path, wrapping.format(serving(port))) as daemon:
        wait_until(lambda: answered_by(port), "the job's server answers")
        pid = answered_by(port)

        run = ultra("resolve", str(port), *FAST, prefix=daemon.enter)

        found = freed(run, port)
        assert [each["pid"] for each in found["processes"]] == [pid]
        assert found["chain"][0] == f"cron {daemon.popen.pid}"
        assert found["evidence"] == [
            "crontab of root: @reboot: it comes back when the machine starts again"
        ]
        assert daemon.alive


def test_a_job_that_no_table_names_may_come_back(lab: Lab, tmp_path: Path) -> None:
    """Looked at from where cron's tables cannot be seen."""
    port = free_port()
    with cron(lab, tmp_path, serving(port)) as daemon:
        wait_until(lambda: answered_by(port), "the job's server answers")

        run = ultra("resolve", str(port), *FAST)

        found = freed(run, port)
        assert found["chain"][0] == f"cron {daemon.popen.pid}"
        assert "may come back at its next time" in found["evidence"][0]
        assert daemon.alive


def test_a_loop_in_a_job_is_ended_with_its_loop(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    job = f"while true; do {serving(port)}; done"
    with cron(lab, tmp_path, job) as daemon:
        wait_until(lambda: answered_by(port), "the job's server answers")

        run = ultra("resolve", str(port), *FAST)

        assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (0, "freed"), run.stdout
        assert stays_free(port)
        assert daemon.alive


def test_a_job_of_at_is_ended_for_good(lab: Lab) -> None:
    port = free_port()
    mark = lab.marked()[MARK]
    with atd(lab) as daemon:
        daemon.at_now(f"export {MARK}={mark}; {serving(port)}")
        wait_until(lambda: answered_by(port), "the job's server answers")

        run = ultra("resolve", str(port), *FAST)

        found = freed(run, port)
        assert found["chain"][0] == f"atd {daemon.popen.pid}"
        assert found["evidence"] == ["started by at, which runs a job once"]
        assert daemon.alive
        wait_until(
            lambda: not psutil.Process(daemon.popen.pid).children(), "nothing of the job is left"
        )


def test_a_daemon_that_a_job_keeps_up(lab: Lab, tmp_path: Path) -> None:
    """It has let go of cron: only the table tells that it comes back."""
    port = free_port()
    server = f"{sys.executable} -B -S -m tests.lab.servers.answering {port}"
    job = f"cd {ROOT} && (setsid {server} >/dev/null 2>&1 &)"
    with cron(lab, tmp_path, job) as daemon:
        wait_until(lambda: answered_by(port), "the job's server answers")

        run = ultra("resolve", str(port), *FAST, prefix=daemon.enter)

        found = freed(run, port)
        assert found["chain"][0] == "crontab of root"
        assert "it comes back when the machine starts again" in found["evidence"][0]
        assert daemon.alive
