"""Ports held by what a real monit watches: nobody's child, and back at one of its next checks."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import advised, holder, resolve, stopped
from tests.lab.ports import free_port, is_free
from tests.lab.processes import alive, answered_by, stays, stays_free, wait_until
from tests.lab.supervisors import RUNIT, Monit, Supervisors, comes_back, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.processes import Lab

pytestmark = pytest.mark.slow


@pytest.fixture
def monit() -> Iterator[Monit]:
    """A monit, to be started by the test; all of it is reaped."""
    with tempfile.TemporaryDirectory(prefix="lab") as home, Monit(Path(home)) as monit:
        yield monit


def serve(monit: Monit, port: int, check: str) -> tuple[int, int]:
    """Lets monit start a server on the port; the PIDs of monit and of who answers."""
    monit.serve(port)
    daemon = monit.start_monit(check)
    wait_until(lambda: answered_by(port), f"a server answers on {port}")
    return daemon, answered_by(port) or 0


def watched(monit: Monit, *, stop: bool = True, more: str = "") -> str:
    """The check of the server by its PID file."""
    programs = [monit.start_program, *([monit.stop_program] if stop else []), more]
    return "\n  ".join([f"check process web with pidfile {monit.pid_file}", *programs])


def test_what_monit_watches_is_advised_and_comes_back_when_killed(monit: Monit) -> None:
    port = free_port()
    daemon, pid = serve(monit, port, watched(monit))

    run = resolve(port)

    found = advised(run, port, "monit", "web", "monitored, if does not exist then restart")
    assert found["chain"][-1] == f"monit {daemon}"
    stop = f"monit -c {monit.file} stop web"
    assert found["step"]["command_lines"] == [stop]
    assert stays(lambda: answered_by(port) == pid, 1.0)
    comes_back(port, pid)
    wait_until(lambda: "Monitored" in monit.call("status", "web"), "monit has seen it")
    subprocess.run(shlex.split(stop), check=True, capture_output=True)
    wait_until(lambda: is_free(port), "it is down")
    assert stays_free(port, 3.0)


def test_stop_services_stops_it_and_says_how_to_start_it(monit: Monit) -> None:
    port = free_port()
    daemon, _ = serve(monit, port, watched(monit))

    run = resolve(port, "--stop-services")

    found = stopped(run, port)
    assert stays_free(port, 3.0)
    assert alive(daemon)
    (undo,) = found["step"]["undo_lines"]
    subprocess.run(shlex.split(undo), check=True, capture_output=True)
    wait_until(lambda: answered_by(port), "it is back")


def test_a_pattern_finds_it_too(monit: Monit) -> None:
    port = free_port()
    pattern = f'"tests.lab.servers.answering {port} "'
    programs = f"{monit.start_program}\n  {monit.stop_program}"
    _, pid = serve(monit, port, f"check process 'my web' matching {pattern}\n  {programs}")
    wait_until(lambda: str(pid) in monit.call("status"), "monit has seen it")

    run = resolve(port)

    assert run.status == 3, run.stdout + run.stderr
    assert holder(run, port)["manager"]["name"] == "my web"
    assert holder(run, port)["step"]["command_lines"] == [f"monit -c {monit.file} stop 'my web'"]
    assert answered_by(port) == pid


def test_before_monit_has_seen_what_it_started_it_is_suspected(monit: Monit) -> None:
    """By its environment alone: at its next check monit may find it, or start another one."""
    port = free_port()
    check = "check process web matching 'no such process'"
    _, pid = serve(monit, port, f"{check}\n  {monit.start_program}\n  {monit.stop_program}")

    run = resolve(port)

    assert run.status == 3, run.stdout + run.stderr
    found = holder(run, port)
    assert (found["confidence"], found["respawn"]) == ("suspected", "unknown")
    assert found["manager"]["name"] == "web"
    assert alive(pid)


def test_without_a_stop_program_the_advice_is_to_unmonitor_first(monit: Monit) -> None:
    """`monit stop` would end nothing, and say that it did."""
    port = free_port()
    _, pid = serve(monit, port, watched(monit, stop=False))

    run = resolve(port, "--stop-services")

    assert run.status == 3, run.stdout + run.stderr
    found = holder(run, port)
    assert found["respawn"] == "yes"
    first, second = found["step"]["command_lines"]
    assert first.startswith(f"monit -c {monit.file} unmonitor web")
    assert second == f"kill {pid}"
    assert answered_by(port) == pid


@pytest.mark.parametrize("more", ["mode passive", "if not exist then alert"])
def test_what_monit_would_not_start_again_is_ended(monit: Monit, more: str) -> None:
    port = free_port()
    monit.serve(port)
    subprocess.run([monit.file.with_name("start")], check=True)
    wait_until(lambda: answered_by(port), f"a server answers on {port}")
    daemon = monit.start_monit(watched(monit, more=more))

    run = resolve(port)

    assert run.status == 0, run.stdout + run.stderr
    assert holder(run, port)["kind"] == "local"
    assert stays_free(port, 3.0)
    assert alive(daemon)


def test_what_is_not_monitored_is_ended(monit: Monit) -> None:
    port = free_port()
    daemon, _ = serve(monit, port, watched(monit))
    monit.call("unmonitor", "web")
    wait_until(lambda: "Not monitored" in monit.call("status", "web"), "monit lets go of it")

    run = resolve(port)

    assert run.status == 0, run.stdout + run.stderr
    assert holder(run, port)["kind"] == "local"
    assert stays_free(port, 3.0)
    assert alive(daemon)


def test_a_monit_that_does_not_answer_is_suspected(monit: Monit) -> None:
    port = free_port()
    monit.serve(port)
    monit.start_monit(watched(monit), http=False)
    wait_until(lambda: answered_by(port), f"a server answers on {port}")
    pid = answered_by(port)

    run = resolve(port)

    assert run.status == 3, run.stdout + run.stderr
    found = holder(run, port)
    assert (found["kind"], found["respawn"]) == ("service", "unknown")
    assert found["confidence"] == "suspected"
    assert answered_by(port) == pid


def test_monit_goes_before_the_supervisor_that_it_commands(monit: Monit, tmp_path: Path) -> None:
    """A service of runit whose PID monit watches: after `sv stop`, monit would start it again."""
    port = free_port()
    with Supervisors(tmp_path, RUNIT) as service:
        service.start_service(f"exec {serving(port)}")
        wait_until(lambda: answered_by(port), f"a server answers on {port}")
        file = service.folder / "supervise" / "pid"
        monit.start_monit(
            f"check process web with pidfile {file}\n"
            f'  start program = "/usr/bin/sv start {service.folder}"\n'
            f'  stop program = "/usr/bin/sv stop {service.folder}"'
        )

        run = resolve(port, "--stop-services")

        assert run.status == 0, run.stdout + run.stderr
        assert holder(run, port)["manager"]["kind"] == "monit"
        assert stays_free(port, 3.0)


@pytest.mark.parametrize("told_by", ["its test", "its start program"])
def test_what_monit_misses_and_would_start_is_named(monit: Monit, lab: Lab, told_by: str) -> None:
    """Somebody else has its port: monit starts it at each check, and it would take the port."""
    port = free_port()
    squatter = lab.start("answering", port)
    if told_by == "its test":
        monit.serve(port)
        check = watched(monit, more=f"if failed host 127.0.0.1 port {port} then alert")
    else:
        server = f"{sys.executable} -m http.server {port} --bind 127.0.0.1"
        lines = (f"check process web with pidfile {monit.pid_file}", f'start program = "{server}"')
        check = "\n  ".join((*lines, 'stop program = "/bin/true"'))
    monit.start_monit(check)
    wait_until(lambda: "Process 'web'" in monit.call("status"), "monit looks at it")

    run = resolve(port)

    assert run.status == 3, run.stdout + run.stderr
    found = holder(run, port)
    assert (found["manager"]["kind"], found["manager"]["name"]) == ("monit", "web")
    assert found["step"]["command_lines"][-1] == f"kill {squatter.pid}"
    assert squatter.alive

    run = resolve(port, "--stop-services")

    assert run.status == 0, run.stdout + run.stderr
    assert stays_free(port, 3.0)
