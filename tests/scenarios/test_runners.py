"""Ports of pm2's applications, and of what a Procfile runner started, with the real ones."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.conftest import NOBODY
from tests.lab.cli import Run, advised, stopped, ultra
from tests.lab.nodeland import Pm2, pm2
from tests.lab.ports import free_port
from tests.lab.processes import (
    READY_SECONDS,
    alive,
    answered_by,
    stays,
    stays_free,
    unavailable,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.lab.processes import Lab

pytestmark = pytest.mark.slow

FAST = ("--settle", "1", "--grace", "2", "--no-docker")


def resolve(port: int, *arguments: str, env: Mapping[str, str] | None = None) -> Run:
    return ultra("resolve", *FAST, "--json", *arguments, str(port), env=env)


def holder(run: Run, port: int) -> dict[str, Any]:
    """The one holder of the port."""
    (found,) = run.port(f"{port}/tcp")["holders"]
    assert isinstance(found, dict)
    return found


# --- pm2 ------------------------------------------------------------------------------------------


@pytest.fixture
def god() -> Iterator[Pm2]:
    """A pm2 that has not started anything yet."""
    with pm2() as found:
        yield found


def serve(god: Pm2, port: int, *options: str) -> int:
    """Starts `web` on the port beside `idle`; returns the PID that answers."""
    god.serve("web", port, *options)
    god.serve("idle", free_port())
    wait_until(lambda: answered_by(port), f"a server answers on {port}")
    pid = answered_by(port)
    assert pid == god.pid("web")
    return pid


def test_an_application_of_pm2_is_advised(god: Pm2) -> None:
    port = free_port()
    pid = serve(god, port)

    run = resolve(port, env=god.environment)

    found = advised(run, port, "pm2", "web", "autorestart=true")
    assert found["step"]["command_lines"] == [f"env PM2_HOME={god.home} pm2 stop web"]
    assert found["step"]["undo_lines"] == [f"env PM2_HOME={god.home} pm2 start web"]
    assert stays(lambda: answered_by(port) == pid, 1)


def test_stop_services_stops_the_application_alone(god: Pm2) -> None:
    port = free_port()
    serve(god, port)
    daemon, idle = god.daemon, god.pid("idle")

    run = resolve(port, "--stop-services", env=god.environment)

    found = stopped(run, port)
    assert stays_free(port)
    assert god.status("web") == "stopped"
    assert (god.daemon, god.pid("idle")) == (daemon, idle)
    (undo,) = found["step"]["undo_lines"]
    subprocess.run(
        shlex.split(undo), env={**os.environ, **god.environment}, check=True, capture_output=True
    )
    wait_until(lambda: answered_by(port), "the undo line brings it back")


def test_an_application_that_stays_down_is_ended(god: Pm2) -> None:
    port = free_port()
    pid = serve(god, port, "--no-autorestart")
    daemon, idle = god.daemon, god.pid("idle")

    run = resolve(port, env=god.environment)

    assert run.status == 0, run.stdout + run.stderr
    found = holder(run, port)
    assert found["respawn"] == "no"
    assert [each["pid"] for each in found["processes"]] == [pid]
    assert found["step"]["undo_lines"] == [f"env PM2_HOME={god.home} pm2 start web"]
    assert stays_free(port)
    assert (god.daemon, god.pid("idle")) == (daemon, idle)


def test_an_application_that_waits_for_the_port_is_named(god: Pm2, lab: Lab) -> None:
    """Somebody else has its port: it ends, and is started again some seconds later."""
    port = free_port()
    squatter = lab.start("answering", port)
    god.serve("web", port, "--restart-delay", "3000")
    god.serve("idle", free_port())
    wait_until(lambda: god.status("web") != "online", "it ends")

    run = resolve(port, env=god.environment)

    assert run.status == 3, run.stdout + run.stderr
    found = holder(run, port)
    assert (found["manager"]["kind"], found["manager"]["name"]) == ("pm2", "web")
    assert any("Address already in use" in fact for fact in found["evidence"])
    assert found["step"]["command_lines"][-1] == f"kill {squatter.pid}"
    assert squatter.alive

    run = resolve(port, "--stop-services", env=god.environment)

    assert run.status == 0, run.stdout + run.stderr
    assert stays_free(port, 4.0)
    assert god.status("web") == "stopped"
    assert god.status("idle") == "online"


def test_an_application_that_pm2_gave_up_waits_no_more(god: Pm2, lab: Lab) -> None:
    """Its server is one of Node's, which ends before it is a second old."""
    port = free_port()
    squatter = lab.start("answering", port)
    god.script("web", port, "--max-restarts", "1")
    wait_until(lambda: god.status("web") == "errored", "pm2 gave it up")

    run = resolve(port, env=god.environment)

    assert run.status == 0, run.stdout + run.stderr
    assert not squatter.alive
    assert stays_free(port)


def test_in_cluster_mode_the_daemon_that_listens_is_never_signalled(god: Pm2) -> None:
    port = free_port()
    god.cluster("many", port)
    god.serve("idle", free_port())
    wait_until(lambda: answered_by(port), f"a worker answers on {port}")
    daemon, idle = god.daemon, god.pid("idle")

    run = resolve(port, "--force", env=god.environment)

    assert run.status == 3, run.stdout + run.stderr
    found = holder(run, port)
    assert [each["pid"] for each in found["processes"]] == [daemon]
    assert found["kind"] == "service"
    assert found["step"]["command_lines"] == [f"env PM2_HOME={god.home} pm2 stop many"]
    assert answered_by(port)

    run = resolve(port, "--stop-services", env=god.environment)

    assert run.status == 0, run.stdout + run.stderr
    assert stays_free(port)
    assert (god.daemon, god.pid("idle")) == (daemon, idle)


def test_which_of_two_clusters_listens_is_not_guessed(god: Pm2) -> None:
    port, other = free_port(), free_port()
    god.cluster("one", port)
    god.cluster("two", other)
    wait_until(lambda: answered_by(port) and answered_by(other), "both clusters answer")

    run = resolve(port, "--stop-services", env=god.environment)

    assert run.status == 3, run.stdout + run.stderr
    found = holder(run, port)
    assert (found["manager"], found["confidence"]) == (None, "suspected")
    commands = [f"env PM2_HOME={god.home} pm2 stop {name}" for name in ("one", "two")]
    assert sorted(set(found["step"]["command_lines"])) == commands
    assert answered_by(port)
    assert answered_by(other)


def test_a_pm2_that_does_not_answer_is_neither_believed_nor_started_again(god: Pm2) -> None:
    """`pm2` starts another daemon where it cannot reach one: it must not be called then."""
    port = free_port()
    pid = serve(god, port)
    before = {process.pid for process in god.processes()}
    (god.home / "rpc.sock").unlink()

    run = resolve(port, env=god.environment)

    assert run.status == 3, run.stdout + run.stderr
    found = holder(run, port)
    assert (found["confidence"], found["respawn"]) == ("suspected", "unknown")
    assert "rpc.sock" in found["evidence"][0]
    assert {process.pid for process in god.processes()} == before
    assert answered_by(port) == pid


@pytest.mark.root
def test_root_asks_another_users_pm2_as_that_user(as_nobody: tuple[str, ...]) -> None:
    port = free_port()
    with pm2(as_nobody, NOBODY) as god:
        god.script("web", port)
        wait_until(lambda: answered_by(port), f"a server answers on {port}")

        run = resolve(port, "--stop-services", env=god.environment)

        assert run.status == 0, run.stdout + run.stderr
        (action,) = holder(run, port)["outcome"]["actions"]
        assert action == f"sudo -u nobody env PM2_HOME={god.home} pm2 stop web"
        assert stays_free(port)
        assert god.status("web") == "stopped"
        assert {each.uids().real for each in god.processes()} == {NOBODY}


# --- honcho, foreman ------------------------------------------------------------------------------


def runner(name: str) -> str:
    """The path of a runner: honcho is a package of the tests, foreman one of the system's."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name)
    return found or unavailable(f"{name} is missing")


def serving(port: int) -> str:
    return f"{sys.executable} -B -S -m tests.lab.servers.answering {port}"


class Team:
    """A running Procfile; `lines` has a command for each name."""

    def __init__(self, lab: Lab, folder: Path, kind: str, lines: Mapping[str, str]) -> None:
        text = "".join(f"{name}: {command}\n" for name, command in lines.items())
        (folder / "Procfile").write_text(text, encoding="utf-8")
        self.folder = folder
        self.popen = lab.command(runner(kind), "start", cwd=folder)

    def family(self) -> list[int]:
        """Everything that the runner has started."""
        return [each.pid for each in psutil.Process(self.popen.pid).children(recursive=True)]

    def ended(self) -> bool:
        """Whether the runner itself has ended."""
        return self.popen.poll() is not None


KINDS = pytest.mark.parametrize("kind", ["honcho", "foreman"])


@KINDS
def test_a_process_whose_end_takes_its_siblings_along_is_advised(
    lab: Lab, tmp_path: Path, kind: str
) -> None:
    port, other = free_port(), free_port()
    team = Team(lab, tmp_path, kind, {"web": serving(port), "api": serving(other)})
    wait_until(lambda: answered_by(port) and answered_by(other), "both servers answer")
    pid, sibling = answered_by(port), answered_by(other)

    run = resolve(port)

    found = advised(run, port, kind, "web.1", respawn="no")
    assert found["step"]["command_lines"] == [f"kill -INT {team.popen.pid}"]
    assert f"{kind} ends all of its processes when one ends" in found["step"]["why"]
    assert str(sibling) in found["step"]["why"]
    assert "start it again" not in found["step"]["why"]
    assert stays(lambda: answered_by(port) == pid and answered_by(other) == sibling, 1)


@KINDS
def test_stop_services_ends_the_runner_as_ctrl_c_does(lab: Lab, tmp_path: Path, kind: str) -> None:
    port, other = free_port(), free_port()
    team = Team(lab, tmp_path, kind, {"web": serving(port), "api": serving(other)})
    wait_until(lambda: answered_by(port) and answered_by(other), "both servers answer")
    bystander = lab.start("answering", free_port())

    run = resolve(port, "--stop-services")

    assert run.status == 0, run.stdout + run.stderr
    (action,) = holder(run, port)["outcome"]["actions"]
    assert action == f"SIGTERM to {kind} {team.popen.pid}"
    (undo,) = holder(run, port)["step"]["undo_lines"]
    assert undo.startswith(f"env -C {team.folder} ")
    assert undo.endswith(f"{kind} start")
    assert lab.frees(port, bystander, seconds=READY_SECONDS)
    assert team.ended()
    assert bystander.alive


@KINDS
def test_a_process_without_siblings_is_ended(lab: Lab, tmp_path: Path, kind: str) -> None:
    port = free_port()
    team = Team(lab, tmp_path, kind, {"web": f"exec {serving(port)}"})
    wait_until(lambda: answered_by(port), "the server answers")
    pid = answered_by(port)

    run = resolve(port)

    assert run.status == 0, run.stdout + run.stderr
    found = holder(run, port)
    assert [each["pid"] for each in found["processes"]] == [pid]
    assert found["respawn"] == "no"
    assert lab.frees(port, seconds=READY_SECONDS)
    assert team.ended(), f"{kind} has nothing left to run"


@KINDS
def test_killing_one_would_indeed_end_the_others(lab: Lab, tmp_path: Path, kind: str) -> None:
    """The fact behind the advice, without `ultra-ports`."""
    port, other = free_port(), free_port()
    team = Team(lab, tmp_path, kind, {"web": serving(port), "api": serving(other)})
    wait_until(lambda: answered_by(port) and answered_by(other), "both servers answer")
    pid, family = answered_by(port), team.family()
    assert pid is not None

    psutil.Process(pid).kill()

    wait_until(lambda: not any(map(alive, family)), "its siblings have ended")
