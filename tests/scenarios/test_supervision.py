"""Ports that services of runit, s6 and daemontools hold, below the real supervisors."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import FAST, advised, holder, resolve, stopped, ultra
from tests.lab.ports import free_port, is_free
from tests.lab.processes import alive, answered_by, stays, stays_free, wait_until
from tests.lab.supervisors import DAEMONTOOLS, RUNIT, S6, Supervisors, comes_back, serving, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.processes import Lab

pytestmark = pytest.mark.slow

NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups"


@pytest.fixture(params=[RUNIT, S6, DAEMONTOOLS], ids=lambda programs: programs.name)
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Supervisors]:
    """One family's service, to be started by the test; all of it is reaped."""
    with Supervisors(tmp_path, request.param) as service:
        yield service


def serve(service: Supervisors, port: int, script: str | None = None) -> int:
    """Runs the service on the port; returns the PID that answers."""
    service.start_service(script or f"exec {serving(port)}")
    wait_until(lambda: answered_by(port), f"a server answers on {port}")
    pid = answered_by(port)
    assert pid is not None
    return pid


def test_a_service_is_advised_and_comes_back_when_killed(service: Supervisors, lab: Lab) -> None:
    port, other = free_port(), free_port()
    pid = serve(service, port)
    bystander = lab.start("answering", other)

    run = resolve(port)

    found = advised(run, port, service.programs.name, "web", "want up")
    assert found["chain"][-1] == f"{service.programs.supervisor} {service.supervisor.pid}"
    stop = service.programs.stop.format(service.folder)
    assert found["step"]["command_lines"] == [stop]
    assert stays(lambda: answered_by(port) == pid, 1.0)
    # What the advice says is so: killed, it is back at once.
    comes_back(port, pid)
    # And what it prints works when it is copied.
    assert shutil.which(shlex.split(stop)[0])
    subprocess.run(shlex.split(stop), check=True, capture_output=True)
    wait_until(lambda: is_free(port), "it is down")
    assert stays_free(port)
    assert bystander.alive


def test_stop_services_stops_it_and_says_how_to_start_it(service: Supervisors) -> None:
    port = free_port()
    serve(service, port)
    supervisor = service.supervisor

    run = resolve(port, "--stop-services")

    found = stopped(run, port)
    assert stays_free(port)
    assert supervisor.is_running()
    (undo,) = found["step"]["undo_lines"]
    subprocess.run(shlex.split(undo), check=True, capture_output=True)
    wait_until(lambda: answered_by(port), "it is back")


def test_what_runs_once_is_ended(service: Supervisors) -> None:
    port = free_port()
    pid = serve(service, port)
    service.call(service.programs.once)
    wait_until(lambda: _policy(port).startswith(("want down", "run once")), "it runs once")

    run = resolve(port)

    assert run.status == 0, run.stdout + run.stderr
    found = holder(run, port)
    assert (found["kind"], found["respawn"]) == ("service", "no")
    assert found["confidence"] == "confirmed"
    assert [each["pid"] for each in found["processes"]] == [pid]
    assert found["outcome"]["result"] == "done"
    assert found["step"]["undo_lines"] == [
        shlex.join((*service.programs.once, str(service.folder)))
    ]
    assert stays_free(port)
    assert service.supervisor.is_running()


def test_a_service_that_waits_for_the_port_is_named(service: Supervisors, lab: Lab) -> None:
    """Somebody else has its port: it fails, is started again each second, and would take it."""
    port = free_port()
    squatter = lab.start("answering", port)
    service.start_service(f"exec {sys.executable} -m http.server {port} --bind 127.0.0.1")

    run = resolve(port)

    found = advised(run, port, service.programs.name, "web")
    assert found["step"]["command_lines"][-1] == f"kill {squatter.pid}"
    assert squatter.alive

    run = resolve(port, "--stop-services")

    assert run.status == 0, run.stdout + run.stderr
    assert stays_free(port)
    assert not alive(squatter.pid)
    assert service.supervisor.is_running()


def test_a_service_that_is_only_now_started_is_down_before_its_port_is_freed(
    service: Supervisors, lab: Lab
) -> None:
    """It needs longer to reach its port than its supervisor to return from the command to stop."""
    port = free_port()
    squatter = lab.start("answering", port)
    server = f"{sys.executable} -m http.server {port} --bind 127.0.0.1"
    service.start_service(f"sleep 0.7; exec {server}")

    run = resolve(port, "--stop-services")

    assert run.status == 0, run.stdout + run.stderr
    assert holder(run, port)["step"]["kind"] == "stop-service"
    assert stays_free(port)
    assert not alive(squatter.pid)


def _policy(port: int) -> str:
    return str(holder(ultra("who", "--json", str(port)), port)["manager"]["policy"])


def test_a_file_named_down_does_not_keep_it_down(service: Supervisors) -> None:
    """It only says what happens when the supervisor itself starts."""
    port = free_port()
    pid = serve(service, port)
    (service.folder / "down").touch()

    run = resolve(port)

    assert run.status == 3, run.stdout + run.stderr
    assert holder(run, port)["respawn"] == "yes"
    comes_back(port, pid)


def test_a_server_below_the_run_script_is_the_service_too(service: Supervisors) -> None:
    port = free_port()
    pid = serve(service, port, f"{serving(port)}\ntrue")

    run = resolve(port)

    assert run.status == 3, run.stdout + run.stderr
    found = holder(run, port)
    assert found["manager"]["name"] == "web"
    assert found["processes"][0]["parent"] != service.supervisor.pid
    assert alive(pid)


def test_a_log_service_is_stopped_alone(service: Supervisors) -> None:
    port = free_port()
    service.start_service("exec sleep 1000", log=f"exec {serving(port)}")
    wait_until(lambda: answered_by(port), f"a server answers on {port}")

    run = resolve(port, "--stop-services")

    assert run.status == 0, run.stdout + run.stderr
    assert holder(run, port)["manager"]["name"] == "web/log"
    assert stays_free(port, 1.0)
    assert service.says("up (") or service.says("run: ")


def test_a_supervisor_that_may_not_be_asked_is_suspected(
    service: Supervisors, as_nobody: tuple[str, ...]
) -> None:
    """Root's supervisor, a server of nobody: who may signal it, and may not ask why it runs."""
    port = free_port()
    pid = serve(service, port, f"exec {serving(port, NOBODY)}")

    run = ultra("resolve", *FAST, "--json", str(port), prefix=as_nobody)

    assert run.status == 3, run.stdout + run.stderr
    found = holder(run, port)
    assert (found["kind"], found["respawn"]) == ("service", "unknown")
    assert found["confidence"] == "suspected"
    stop = service.programs.stop.format(service.folder)
    assert found["step"]["command_lines"] == [f"sudo {stop}"]
    assert stays(lambda: answered_by(port) == pid, 1.0)


def test_what_runs_below_a_terminal_is_not_the_service(service: Supervisors) -> None:
    """A web terminal as a service: what its users start is theirs, and stopping it ends more."""
    port = free_port()
    terminal = service.scanned.parent / "ttyd"
    terminal.symlink_to(str(shutil.which("sh")))
    session = shlex.quote(f"{serving(port)}; sleep 1000")
    pid = serve(service, port, f"exec {terminal} -c {session}")

    run = resolve(port, "--stop-services")

    assert run.status == 0, run.stdout + run.stderr
    found = holder(run, port)
    assert found["kind"] == "local"
    assert [each["pid"] for each in found["processes"]] == [pid]
    assert any(process.name() == "ttyd" for process in service.processes())


@pytest.mark.parametrize("name", ["tailscaled", "teleport", "xrdp", "NetworkManager"])
def test_a_way_in_is_never_stopped(tmp_path: Path, name: str) -> None:
    """A stand-in with the name of remote access, or of the network's manager, as a service."""
    port = free_port()
    daemon = tmp_path / name
    daemon.symlink_to(os.path.realpath(sys.executable))
    with Supervisors(tmp_path, RUNIT) as service:
        server = serving(port).replace(sys.executable, str(daemon))
        pid = serve(service, port, f"exec {server}")

        for options in ((), ("--stop-services",), ("--stop-services", "--accept-loss", "--force")):
            run = resolve(port, *options)

            assert run.status == 3, run.stdout + run.stderr
            assert run.port(f"{port}/tcp")["verdict"] == "refused"
            found = holder(run, port)
            assert found["manager"]["kind"] == "runit"
            assert "is never stopped from here" in found["step"]["why"]
            assert found["step"]["command_lines"] == []
        assert stays(lambda: answered_by(port) == pid, 1.0)


def test_the_nearest_manager_is_named(tmp_path: Path) -> None:
    """A service of daemontools that is a runsv, which runs the server: runit's to stop."""
    port = free_port()
    inner = tmp_path / "inner"
    write(inner / "run", f"exec {serving(port)}")
    with Supervisors(tmp_path, DAEMONTOOLS) as outer:
        pid = serve(outer, port, f"exec runsv {inner}")

        run = resolve(port, "--stop-services")

        assert run.status == 0, run.stdout + run.stderr
        assert holder(run, port)["manager"]["kind"] == "runit"
        assert holder(run, port)["manager"]["name"] == "inner"
        assert stays_free(port)
        assert not alive(pid)
        assert outer.says("up (")
