"""Ports that watchers of a real circusd hold, and circusd's own."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.lab.cli import advised, holder, resolve, stopped
from tests.lab.ports import free_port
from tests.lab.processes import alive, answered_by, stays, stays_free, wait_until
from tests.lab.supervisors import Circus, comes_back, serving, watcher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.processes import Lab

pytestmark = pytest.mark.slow


@pytest.fixture
def circus() -> Iterator[Circus]:
    """A circusd, to be started by the test; all of it is reaped."""
    with tempfile.TemporaryDirectory(prefix="lab") as home, Circus(Path(home)) as circus:
        yield circus


IDLE = watcher("idle", "sleep 1000")


def serve(circus: Circus, port: int, beside: str = IDLE, **options: object) -> tuple[int, int]:
    """Runs watcher `web` on the port beside another; the PIDs of circusd and of who answers."""
    shell = f"/bin/sh -c {shlex.quote('exec ' + serving(port))}"
    daemon = circus.start_circus(watcher("web", shell, **options) + beside)
    wait_until(lambda: answered_by(port), f"a server answers on {port}")
    return daemon, answered_by(port) or 0


def test_a_watcher_is_advised_and_comes_back_when_killed(circus: Circus) -> None:
    port = free_port()
    daemon, pid = serve(circus, port, singleton=True)

    run = resolve(port)

    found = advised(run, port, "circus", "web", "respawn=true, singleton")
    assert found["chain"][-1] == f"circusd {daemon}"
    assert stays(lambda: answered_by(port) == pid, 1.0)
    comes_back(port, pid)
    (stop,) = found["step"]["command_lines"]
    assert shutil.which(shlex.split(stop)[0])
    subprocess.run(shlex.split(stop), check=True, capture_output=True)
    assert stays_free(port)


def test_stop_services_stops_it_and_says_how_to_start_it(circus: Circus) -> None:
    port = free_port()
    daemon, _ = serve(circus, port)

    run = resolve(port, "--stop-services")

    found = stopped(run, port)
    assert stays_free(port)
    assert "idle: active" in circus.call("status")
    assert alive(daemon)
    (undo,) = found["step"]["undo_lines"]
    subprocess.run(shlex.split(undo), check=True, capture_output=True)
    wait_until(lambda: answered_by(port), "it is back")


def test_a_watcher_that_does_not_respawn_is_ended(circus: Circus) -> None:
    port = free_port()
    daemon, pid = serve(circus, port, respawn=False)

    run = resolve(port)

    assert run.status == 0, run.stdout + run.stderr
    found = holder(run, port)
    assert (found["kind"], found["respawn"]) == ("service", "no")
    assert found["manager"]["policy"] == "respawn=false"
    assert [each["pid"] for each in found["processes"]] == [pid]
    assert stays_free(port)
    assert alive(daemon)


def test_a_circusd_that_does_not_answer_is_suspected(circus: Circus) -> None:
    port = free_port()
    daemon, pid = serve(circus, port)
    psutil.Process(daemon).suspend()

    run = resolve(port, "--stop-services")

    psutil.Process(daemon).resume()
    assert run.status == 3, run.stdout + run.stderr
    found = holder(run, port)
    assert (found["kind"], found["respawn"]) == ("service", "unknown")
    assert found["confidence"] == "suspected"
    assert circus.endpoint in found["step"]["command_lines"][0]
    assert answered_by(port) == pid


def test_a_socket_of_circusds_own_is_not_freed_by_ending_circusd(circus: Circus) -> None:
    port = free_port()
    shared = f"[socket:web]\nhost = 127.0.0.1\nport = {port}\n"
    daemon = circus.start_circus(
        watcher("web", "sleep 1000", use_sockets=True) + watcher("idle", "sleep 1000") + shared
    )

    run = resolve(port, "--stop-services", "--force")

    assert run.status == 3, run.stdout + run.stderr
    found = holder(run, port)
    assert (found["kind"], run.port(f"{port}/tcp")["verdict"]) == ("protected", "refused")
    assert circus.endpoint in found["step"]["command_lines"][0]
    assert alive(daemon)
    assert "idle: active" in circus.call("status")


def test_a_watcher_that_waits_for_the_port_is_named(circus: Circus, lab: Lab) -> None:
    """Somebody else has its port: it ends as soon as it is started, and would take the port."""
    port = free_port()
    squatter = lab.start("answering", port)
    server = f"{sys.executable} -m http.server {port} --bind 127.0.0.1"
    circus.start_circus(watcher("web", server) + watcher("idle", "sleep 1000"))
    wait_until(lambda: "web: active" in circus.call("status"), "it is watched")

    run = resolve(port)

    found = advised(run, port, "circus", "web")
    assert found["step"]["command_lines"][-1] == f"kill {squatter.pid}"
    assert squatter.alive

    run = resolve(port, "--stop-services")

    assert run.status == 0, run.stdout + run.stderr
    assert stays_free(port)
    assert "idle: active" in circus.call("status")


def test_a_circusd_that_is_busy_is_told_again(circus: Circus) -> None:
    """It refuses commands while it starts what is missing: here for seconds, again and again."""
    port = free_port()
    serve(circus, port, watcher("slow", "sleep 1", warmup_delay=2, numprocesses=2), priority=9)
    wait_until(lambda: "already running" in circus.refusal("start", "web"), "it is busy")

    run = resolve(port, "--stop-services")

    stopped(run, port)
    assert stays_free(port)
