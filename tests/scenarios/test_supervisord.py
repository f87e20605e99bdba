"""Ports that supervisord's programs hold, in a real supervisord."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.lab.cli import FAST, advised, holder, resolve, stopped, ultra
from tests.lab.ports import free_port, is_served
from tests.lab.processes import alive, answered_by, stays, stays_free, wait_until
from tests.lab.supervisord import program, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.engine import Engine
    from tests.lab.processes import Lab
    from tests.lab.supervisord import Supervisor

pytestmark = [pytest.mark.supervisord, pytest.mark.slow]


def serve(supervisor: Supervisor, port: int, autorestart: str, command: str | None = None) -> int:
    """Runs `shop:web` on the port beside `shop:idle`; returns the PID that answers."""
    supervisor.start(
        program("web", command or serving(port), autorestart)
        + program("idle", "sleep 1000", "true")
        + "[group:shop]\nprograms=web,idle\n"
    )
    wait_until(lambda: answered_by(port), f"a server answers on {port}")
    pid = supervisor.program("shop:web")
    assert answered_by(port) == pid
    return pid


def test_a_way_in_is_never_stopped(supervisor: Supervisor, tmp_path: Path) -> None:
    """A stand-in with the name of remote access, as a program of supervisord's."""
    port = free_port()
    daemon = tmp_path / "tailscaled"
    daemon.symlink_to(os.path.realpath(sys.executable))
    pid = serve(supervisor, port, "true", serving(port).replace(sys.executable, str(daemon)))

    run = resolve(port, "--stop-services", "--accept-loss", "--force")

    assert run.status == 3, run.stdout + run.stderr
    assert holder(run, port)["manager"]["kind"] == "supervisord"
    assert "is never stopped from here" in holder(run, port)["step"]["why"]
    assert stays(lambda: answered_by(port) == pid, 1.0)


def test_a_program_in_a_group_is_advised(supervisor: Supervisor) -> None:
    port = free_port()
    pid = serve(supervisor, port, "true")

    run = resolve(port)

    found = advised(run, port, "supervisord", "shop:web", "autorestart=true")
    assert found["step"]["kind"] == "advise"
    wanted = f"supervisorctl -c {supervisor.config} stop shop:web"
    assert any(line.endswith(wanted) for line in found["step"]["command_lines"])
    assert stays(lambda: answered_by(port) == pid)
    assert supervisor.program("shop:web") == pid


def test_the_advice_is_printed_and_works(supervisor: Supervisor, lab: Lab) -> None:
    port, other = free_port(), free_port()
    serve(supervisor, port, "unexpected")
    bystander = lab.start("answering", other)

    run = ultra("resolve", *FAST, str(port))

    assert run.status == 3, run.stdout + run.stderr
    wanted = f"supervisorctl -c {supervisor.config} stop shop:web"
    assert wanted in run.stdout
    assert "autorestart=unexpected" in run.stdout
    supervisor.ctl(*shlex.split(wanted)[3:])
    assert stays_free(port)
    assert bystander.alive


def test_stop_services_stops_it(supervisor: Supervisor) -> None:
    port = free_port()
    serve(supervisor, port, "true")

    run = resolve(port, "--stop-services")

    found = stopped(run, port)
    wanted = f"supervisorctl -c {supervisor.config} start shop:web"
    assert any(line.endswith(wanted) for line in found["step"]["undo_lines"])
    assert stays_free(port)
    assert supervisor.state("shop:web") == "STOPPED"
    assert supervisor.state("shop:idle") == "RUNNING"


def test_a_program_that_stays_down_is_ended(supervisor: Supervisor) -> None:
    port = free_port()
    pid = serve(supervisor, port, "false")

    run = resolve(port)

    assert run.status == 0, run.stdout + run.stderr
    assert run.port(f"{port}/tcp")["verdict"] == "freed"
    found = holder(run, port)
    assert found["respawn"] == "no"
    assert [each["pid"] for each in found["processes"]] == [pid]
    assert stays_free(port)
    assert supervisor.alive
    assert supervisor.state("shop:idle") == "RUNNING"


def test_a_server_in_a_shell_is_the_program_too(supervisor: Supervisor) -> None:
    port = free_port()
    shell = f"/bin/sh -c {shlex.quote(serving(port) + '; true')}"
    supervisor.start(program("web", shell, "true") + "stopasgroup=true\n")
    wait_until(lambda: answered_by(port), f"a server answers on {port}")
    pid = answered_by(port)
    assert pid != supervisor.program("web")

    run = resolve(port)

    assert run.status == 3, run.stdout + run.stderr
    assert holder(run, port)["manager"]["name"] in {"web", "web:web"}
    assert stays(lambda: answered_by(port) == pid)


@pytest.fixture
def strays() -> Iterator[list[int]]:
    """The PIDs that the test added are ended, where the command did not."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()


def test_what_only_inherited_the_environment_is_local(
    supervisor: Supervisor, strays: list[int]
) -> None:
    """Started by a program, detached from it, and adopted by init: nobody supervises it."""
    port = free_port()
    detached = f"(setsid {sys.executable} -B -S -m tests.lab.servers.orphan {port} &); sleep 1000"
    supervisor.start(
        program("web", f"/bin/sh -c {shlex.quote(detached)}", "true") + "stopasgroup=true\n"
    )
    wait_until(lambda: answered_by(port), f"a server answers on {port}")
    pid = answered_by(port)
    assert pid is not None
    strays.append(pid)
    shell = supervisor.program("web")

    run = resolve(port)

    assert run.status == 0, run.stdout + run.stderr
    assert run.port(f"{port}/tcp")["verdict"] == "freed"
    found = holder(run, port)
    assert found["kind"] == "local"
    assert [each["pid"] for each in found["processes"]] == [pid]
    assert stays_free(port)
    assert supervisor.program("web") == shell


def busy(supervisor: Supervisor, lab: Lab, autorestart: str) -> tuple[int, int]:
    """Starts `web` for a port that another process has; the port, and that process."""
    port = free_port()
    squatter = lab.command(sys.executable, "-m", "http.server", str(port))
    wait_until(lambda: is_served(port), f"{port} is served")
    section = program("web", serving(port), autorestart).replace("startsecs=0", "startsecs=2")
    supervisor.start(section + "startretries=99\n")
    wait_until(lambda: supervisor.state("web") == "BACKOFF", "web waits for its port")
    return port, squatter.pid


@pytest.mark.parametrize("autorestart", ["true", "false"])
def test_a_program_that_waits_for_the_port_is_named(
    supervisor: Supervisor, lab: Lab, autorestart: str
) -> None:
    """In BACKOFF it is started again, whatever `autorestart` says: it would take the port."""
    port, squatter = busy(supervisor, lab, autorestart)

    run = resolve(port)

    assert run.status == 3, run.stdout + run.stderr
    found = holder(run, port)
    assert (found["kind"], found["respawn"]) == ("service", "yes")
    assert found["manager"]["name"] == "web:web"
    assert [each["pid"] for each in found["processes"]] == [squatter]
    stop, end = found["step"]["command_lines"]
    assert stop.startswith(f"supervisorctl -c {supervisor.config} stop web:web")
    assert end == f"kill {squatter}"
    assert alive(squatter)
    assert "web:web" in ultra("who", str(port)).stdout


def test_stop_services_stops_whoever_waits_and_ends_the_holder(
    supervisor: Supervisor, lab: Lab
) -> None:
    port, squatter = busy(supervisor, lab, "true")

    run = resolve(port, "--stop-services")

    assert run.status == 0, run.stdout + run.stderr
    assert run.port(f"{port}/tcp")["verdict"] == "freed"
    stopped, signalled = holder(run, port)["outcome"]["actions"]
    assert stopped.endswith("stop web:web")
    assert signalled.startswith("SIGTERM to python")
    assert stays_free(port)
    assert not alive(squatter)
    assert supervisor.state("web") == "STOPPED"


def test_a_program_that_waits_for_another_port_is_nobodys_business(
    supervisor: Supervisor, lab: Lab
) -> None:
    busy(supervisor, lab, "true")
    port = free_port()
    lab.command(sys.executable, "-m", "http.server", str(port))
    wait_until(lambda: is_served(port), f"{port} is served")

    run = resolve(port)

    assert run.status == 0, run.stdout + run.stderr
    assert supervisor.state("web") in {"BACKOFF", "STARTING"}


def test_a_program_that_only_its_log_tells_of(supervisor: Supervisor, lab: Lab) -> None:
    port = free_port()
    squatter = lab.command(sys.executable, "-m", "http.server", str(port))
    wait_until(lambda: is_served(port), f"{port} is served")
    said = f"printf 'bind() to 0.0.0.0:%d failed (98: Address already in use)' {port:#x}; false"
    log = "stdout_logfile=AUTO\nstartretries=99\n"
    section = program("web", f"/bin/sh -c {shlex.quote(said.replace('%', '%%'))}", "true")
    supervisor.start(
        section.replace("startsecs=0", "startsecs=2").replace("stdout_logfile=NONE\n", log)
    )
    wait_until(lambda: supervisor.state("web") == "BACKOFF", "web waits for its port")

    run = resolve(port)

    assert run.status == 3, run.stdout + run.stderr
    assert any("already in use" in fact for fact in holder(run, port)["evidence"])
    assert alive(squatter.pid)


def test_a_client_that_fails_may_wait_for_the_port_and_no_more(
    supervisor: Supervisor, lab: Lab
) -> None:
    """It is told the port of what it works with, and ends for another reason."""
    port = free_port()
    lab.command(sys.executable, "-m", "http.server", str(port))
    wait_until(lambda: is_served(port), f"{port} is served")
    worker = f"/bin/sh -c 'echo no such queue; exit 1' worker --queue-url http://127.0.0.1:{port}/"
    section = program("worker", worker, "true").replace("startsecs=0", "startsecs=2")
    log = "stdout_logfile=AUTO\nstartretries=99\n"
    supervisor.start(section.replace("stdout_logfile=NONE\n", log))
    wait_until(lambda: supervisor.state("worker") == "BACKOFF", "the worker fails")

    said = "program worker:worker of supervisord (BACKOFF) may wait for this port"
    told = ultra("resolve", "--dry-run", str(port))
    assert said in told.stdout.replace("(STARTING)", "(BACKOFF)")
    run = resolve(port)

    assert run.status == 0, run.stdout + run.stderr
    assert any("may wait for this port" in fact for fact in holder(run, port)["evidence"])
    assert supervisor.state("worker") in {"BACKOFF", "STARTING"}


def test_a_manager_that_does_not_answer_may_know_who_waits(
    supervisor: Supervisor, lab: Lab
) -> None:
    """Nothing is known of it then: that is said, in the line on what would take the port."""
    port = free_port()
    lab.start("answering", port)
    supervisor.start(program("worker", "sleep 1000", "true"))

    os.kill(supervisor.pid, signal.SIGSTOP)
    try:
        told = ultra("resolve", "--dry-run", str(port))
        run = resolve(port)
    finally:
        os.kill(supervisor.pid, signal.SIGCONT)

    said = f"whether supervisord {supervisor.pid} would take this port is not known: supervisorctl"
    assert said in " ".join(told.stdout.split())
    assert run.status == 0, run.stdout + run.stderr
    assert any(fact.startswith(said) for fact in holder(run, port)["evidence"])


@pytest.mark.engine
def test_a_container_that_has_the_port_of_a_program_that_waits(
    supervisor: Supervisor, engine: Engine
) -> None:
    port = free_port()
    container = engine.publish(f"{port}:80")
    section = program("web", serving(port), "true").replace("startsecs=0", "startsecs=2")
    supervisor.start(section + "startretries=99\n")
    wait_until(lambda: supervisor.state("web") == "BACKOFF", "web waits for its port")

    run = resolve(port)

    assert run.status == 3, run.stdout + run.stderr
    commands = run.port(f"{port}/tcp")["holders"][0]["step"]["command_lines"]
    assert commands[-1] == f"docker stop {container.name}"

    run = resolve(port, "--stop-services")

    assert run.status == 0, run.stdout + run.stderr
    assert container.state == "exited"
    assert stays_free(port)
    assert supervisor.state("web") == "STOPPED"
