"""Ports that supervisord's programs hold, in a real supervisord."""

from __future__ import annotations

import contextlib
import shlex
import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.lab.cli import Run, ultra
from tests.lab.ports import free_port
from tests.lab.processes import answered_by, stays, stays_free, wait_until
from tests.lab.supervisord import program, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.processes import Lab
    from tests.lab.supervisord import Supervisor

pytestmark = [pytest.mark.supervisord, pytest.mark.slow]

FAST = ("--settle", "0.3", "--grace", "2")


def resolve(port: int, *arguments: str) -> Run:
    return ultra("resolve", *FAST, "--json", *arguments, str(port))


def holder(run: Run, port: int) -> dict[str, Any]:
    """The one holder of the port."""
    (found,) = run.port(f"{port}/tcp")["holders"]
    assert isinstance(found, dict)
    return found


def serve(supervisor: Supervisor, port: int, autorestart: str) -> int:
    """Runs `shop:web` on the port beside `shop:idle`; returns the PID that answers."""
    supervisor.start(
        program("web", serving(port), autorestart)
        + program("idle", "sleep 1000", "true")
        + "[group:shop]\nprograms=web,idle\n"
    )
    wait_until(lambda: answered_by(port), f"a server answers on {port}")
    pid = supervisor.program("shop:web")
    assert answered_by(port) == pid
    return pid


def test_a_program_in_a_group_is_advised(supervisor: Supervisor) -> None:
    port = free_port()
    pid = serve(supervisor, port, "true")

    run = resolve(port)

    assert run.status == 3, run.stdout + run.stderr
    assert run.port(f"{port}/tcp")["verdict"] == "advised"
    found = holder(run, port)
    assert (found["kind"], found["respawn"]) == ("service", "yes")
    assert found["confidence"] == "confirmed"
    assert found["manager"]["kind"] == "supervisord"
    assert found["manager"]["name"] == "shop:web"
    assert found["manager"]["policy"] == "autorestart=true"
    assert found["step"]["kind"] == "advise"
    wanted = f"supervisorctl -c {supervisor.config} stop shop:web"
    assert any(line.endswith(wanted) for line in found["step"]["commands"])
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

    assert run.status == 0, run.stdout + run.stderr
    assert run.port(f"{port}/tcp")["verdict"] == "freed"
    found = holder(run, port)
    assert found["step"]["kind"] == "stop-service"
    assert found["outcome"]["result"] == "done"
    wanted = f"supervisorctl -c {supervisor.config} start shop:web"
    assert any(line.endswith(wanted) for line in found["step"]["undo"])
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
