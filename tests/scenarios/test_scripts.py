"""The scripts that start servers, with a real uvicorn: ports freed first, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sys
import urllib.request
from http.client import HTTPException
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.lab.ports import free_port
from tests.lab.processes import alive, answered_by, stays, stays_free, wait_until
from tests.lab.shells import BIN, SCRIPTS, WEBAPP, environment, run, shell
from tests.lab.supervisord import program
from tests.lab.supervisord import serving as supervised
from tests.lab.systemd import service

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.lab.engine import Engine
    from tests.lab.processes import Lab
    from tests.lab.supervisord import Supervisor
    from tests.lab.systemd import Machine

pytestmark = pytest.mark.slow

QUICK = {"CLEAR_PORT_OPTIONS": "--settle 0.3 --grace 2"}
DEV = str(SCRIPTS / "start-dev.sh")
ULTRA = str(SCRIPTS / "start-ultra-with-modelrunner.sh")
PRODUCTION = str(SCRIPTS / "test_production.sh")
RUNNER = "exec python -m http.server --bind 127.0.0.1 $MODELRUNNER_PORT"


def got(port: int, path: str = "/pid") -> str:
    """What an HTTP server on the port answers; empty where none does."""
    with contextlib.suppress(OSError, HTTPException):
        url = f"http://127.0.0.1:{port}{path}"
        with urllib.request.urlopen(url, timeout=2) as answer:
            return str(answer.read().decode()).strip()
    return ""


def start(lab: Lab, script: str, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
    """Starts a script in a session of its own, with the signals' default actions."""
    prefix = ("env", "--default-signal=INT,QUIT,TERM,HUP")
    env = environment(**QUICK, **variables)
    return lab.command(*prefix, script, *arguments, env=env, cwd=WEBAPP)


def silent(port: int) -> bool:
    """True where nobody listens; connections that were closed may linger on the port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


def wait_for(port: int) -> str:
    """Returns the PID that the web application on the port says it has."""
    wait_until(lambda: got(port), f"the application answers on {port}")
    return got(port)


def interrupt(popen: subprocess.Popen[bytes], how: str) -> int:
    """Ctrl-C (SIGINT to all of the group), or another signal to the script alone; its status."""
    if how == "ctrl-c":
        os.killpg(popen.pid, signal.SIGINT)
    else:
        popen.send_signal(signal.Signals[how])
    return popen.wait(20)


# --- start-dev.sh ---------------------------------------------------------------------------------


def test_start_dev_frees_the_port_and_becomes_the_server(lab: Lab) -> None:
    port, other = free_port(), free_port()
    stale = lab.start("answering", port)
    bystander = lab.start("answering", other)

    script = start(lab, DEV, "--log-level", "warning", API_PORT=str(port))

    assert wait_for(port) == str(script.pid)
    assert not stale.alive
    assert bystander.alive
    assert psutil.Process(script.pid).cmdline()[-2:] == ["--log-level", "warning"]
    assert interrupt(script, "SIGTERM") in {0, -signal.SIGTERM}
    assert silent(port)


def test_start_dev_asks_env_files_and_the_project(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "ultra-ports.toml").write_text("services.api = 1")
    (tmp_path / ".env").write_text(f"API_PORT={port}\n")
    shutil.copytree(WEBAPP / "backend", tmp_path / "backend")

    lab.command(DEV, env=environment(**QUICK), cwd=tmp_path)

    wait_for(port)


def test_start_dev_runs_another_command(lab: Lab) -> None:
    port = free_port()
    command = 'python -m http.server --bind "$API_HOST" "$API_PORT"'

    start(lab, DEV, "-d", "backend", API_PORT=str(port), API_COMMAND=command)

    wait_until(lambda: "app.py" in got(port, "/"), "http.server lists the folder")


@pytest.mark.supervisord
def test_start_dev_starts_nothing_where_a_program_would_come_back(supervisor: Supervisor) -> None:
    port = free_port()
    supervisor.start(program("web", supervised(port), "true"))
    wait_until(lambda: answered_by(port), f"a server answers on {port}")
    pid = supervisor.program("web")

    for script in (DEV, PRODUCTION, ULTRA):
        model = str(free_port())
        done = run(script, env={**QUICK, "API_PORT": str(port), "MODELRUNNER_PORT": model})
        assert done.status == 3
        assert "supervisorctl" in done.stderr
        assert "Uvicorn" not in done.stderr
        assert done.stdout == ""
    assert stays(lambda: answered_by(port) == pid, 1)


@pytest.mark.supervisord
def test_options_for_the_clearing_come_by_a_variable(lab: Lab, supervisor: Supervisor) -> None:
    port = free_port()
    supervisor.start(program("web", supervised(port), "true"))
    wait_until(lambda: answered_by(port), f"a server answers on {port}")
    options = {"CLEAR_PORT_OPTIONS": "--stop-services --settle 0.3"}

    env = environment(**options, API_PORT=str(port))
    lab.command(DEV, env=env, cwd=WEBAPP)

    wait_for(port)
    assert supervisor.state("web") == "STOPPED"


@pytest.mark.systemd
@pytest.mark.engine
def test_start_dev_starts_nothing_where_a_unit_would_come_back(machine: Machine) -> None:
    port = free_port()
    unit = f"scripts{port}.service"
    machine.write(unit, service(port, "always"))
    machine.systemctl("start", unit)
    pid = machine.wait_for(port)
    variables = f"API_PORT={port} PATH={BIN}:/usr/bin:/usr/sbin:/bin PYTHON={sys.executable}"

    said = machine.run("sh", "-c", f"{variables} {DEV} 2>&1; echo $?")

    assert said.endswith("\n3"), said
    assert f"systemctl stop {unit}" in said
    assert "Uvicorn" not in said
    assert machine.server(port) == pid
    machine.systemctl("stop", unit)


@pytest.mark.engine
def test_start_dev_stops_a_container(lab: Lab, engine: Engine) -> None:
    port = free_port()
    container = engine.publish(str(port) + ":80")
    container.wait_for(port)

    script = start(lab, DEV, API_PORT=str(port))

    assert wait_for(port) == str(script.pid)
    assert container.state == "exited"


def test_a_variable_that_is_no_port_starts_nothing() -> None:
    for script in (DEV, PRODUCTION, ULTRA):
        done = run(script, env={"API_PORT": "80a"})
        assert (done.status, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        assert "API_PORT in the environment is '80a'" in done.stderr


# --- start-ultra-with-modelrunner.sh --------------------------------------------------------------


@pytest.mark.parametrize("how", ["ctrl-c", "SIGTERM", "SIGHUP", "SIGQUIT", "server"])
def test_the_model_runner_lives_with_the_server(lab: Lab, how: str) -> None:
    port, model = free_port(), free_port()
    stale = [lab.start("answering", port), lab.start("answering", model)]
    variables = {"API_PORT": str(port), "MODELRUNNER_PORT": str(model)}

    script = start(lab, ULTRA, MODELRUNNER_COMMAND=RUNNER, **variables)

    server = int(wait_for(port))
    assert "app.py" in got(model, "/backend/")
    assert not any(each.alive for each in stale)
    if how == "server":
        os.kill(server, signal.SIGTERM)
        assert script.wait(20) in {0, 143}
    else:
        assert (
            interrupt(script, how)
            == {"ctrl-c": 130, "SIGTERM": 143, "SIGHUP": 129, "SIGQUIT": 131}[how]
        )
    assert silent(port)
    assert silent(model)
    assert not alive(server)


def test_what_a_command_of_the_model_runner_leaves_is_cleared(lab: Lab) -> None:
    port, model = free_port(), free_port()
    command = RUNNER.replace("exec ", "") + " & sleep 1000"
    variables = {"API_PORT": str(port), "MODELRUNNER_PORT": str(model)}

    script = start(lab, ULTRA, MODELRUNNER_COMMAND=command, **variables)

    wait_for(port)
    assert interrupt(script, "SIGTERM") == 143
    assert silent(model)


def test_a_model_runner_that_nothing_here_could_start_again_is_kept(lab: Lab) -> None:
    port, model = free_port(), free_port()
    runner = lab.command("python", "-m", "http.server", str(model), env=environment())
    wait_until(lambda: got(model, "/"), "the model runner answers")

    script = start(lab, ULTRA, API_PORT=str(port), MODELRUNNER_PORT=str(model))

    assert wait_for(port) == str(script.pid)
    assert runner.poll() is None


def test_a_stale_model_runner_is_cleared_and_waited_for_in_vain(lab: Lab) -> None:
    port, model = free_port(), free_port()
    stale = lab.start("answering", model)  # speaks no HTTP
    variables = {"API_PORT": str(port), "MODELRUNNER_PORT": str(model), "MODELRUNNER_WAIT": "1"}

    done = run(ULTRA, env={**QUICK, **variables})

    assert done.status == 1
    assert f"no answer from 127.0.0.1 port {model} within 1 s" in done.stderr
    assert "Uvicorn" not in done.stderr
    assert not stale.alive
    assert silent(port)


def test_a_model_runner_that_ends_is_not_waited_for() -> None:
    port, model = free_port(), free_port()
    variables = {"API_PORT": str(port), "MODELRUNNER_PORT": str(model)}

    done = run(ULTRA, env={**QUICK, **variables, "MODELRUNNER_COMMAND": "exit 7"})

    assert done.status == 1
    assert f"what was to serve port {model} has ended" in done.stderr
    assert "Uvicorn" not in done.stderr


# --- test_production.sh ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bash", "zsh", "dash", "busybox"])
def test_production_passes_and_leaves_nothing(lab: Lab, name: str) -> None:
    port, other = free_port(), free_port()
    stale = lab.start("answering", port)
    bystander = lab.start("answering", other)
    env = {**QUICK, **lab.marked(), "API_PORT": str(port)}

    done = run(*shell(name), PRODUCTION, "--workers", "2", env=env)

    assert done.status == 0, done.stderr
    assert "passed: GET /health was answered with 200" in done.stderr
    assert stays_free(port, 1)
    assert not stale.alive
    assert bystander.alive
    assert [each.pid for each in lab.processes()] == [bystander.pid]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"HEALTH": "404"}, "failed: GET /health was answered with 404"),
        ({"API_HEALTH_PATH": "/nowhere"}, "failed: GET /nowhere was answered with 404"),
        ({"HEALTH": "503", "API_WAIT": "2"}, "within 2 s (GET /health: "),
        ({"API_APP": "backend.app:nothing"}, "has ended"),
        (
            {"API_COMMAND": "exec sleep 1000 #", "API_WAIT": "1"},
            "within 1 s (GET /health: nothing)",
        ),
        ({"API_COMMAND": "sleep 1000; true #", "API_WAIT": "1"}, "within 1 s"),
    ],
    ids=str,
)
def test_production_fails_and_leaves_nothing(
    lab: Lab, variables: dict[str, str], said: str
) -> None:
    port = free_port()
    env = {**QUICK, **lab.marked(), "API_PORT": str(port), **variables}

    done = run(PRODUCTION, env=env)

    assert done.status == 1, done.stderr
    assert said in done.stderr
    assert silent(port)


@pytest.mark.parametrize("name", ["bash", "zsh", "dash"])
@pytest.mark.parametrize("how", ["ctrl-c", "SIGTERM", "SIGQUIT"])
def test_production_cleans_up_when_it_is_interrupted(lab: Lab, how: str, name: str) -> None:
    port = free_port()
    variables = {"API_PORT": str(port), "HEALTH": "503"}
    script = start(lab, shutil.which("env") or "env", *shell(name), PRODUCTION, **variables)
    server = int(wait_for(port))

    assert interrupt(script, how) == {"ctrl-c": 130, "SIGTERM": 143, "SIGQUIT": 131}[how]

    assert silent(port)
    assert not alive(server)
    assert lab.processes() == []


def test_production_is_not_passed_by_somebody_else(lab: Lab) -> None:
    """Another server took the port before ours could bind it, and answers well."""
    port = free_port()
    other = f"(setsid python -m uvicorn backend.app:app --port {port} >/dev/null 2>&1 &)"
    env = {**QUICK, **lab.marked(), "API_PORT": str(port), "API_COMMAND": f"{other}; sleep 1000 #"}

    done = run(PRODUCTION, env=env)

    assert done.status == 1, done.stderr
    assert "somebody else answers" in done.stderr
    assert silent(port)


@pytest.mark.engine
def test_production_frees_a_port_of_a_container(engine: Engine) -> None:
    port = free_port()
    container = engine.publish(f"{port}:80")
    container.wait_for(port)

    done = run(PRODUCTION, env={**QUICK, "API_PORT": str(port)})

    assert done.status == 0, done.stderr
    assert container.state == "exited"
    assert silent(port)


def test_the_webapp_is_served_on_any_address() -> None:
    port = free_port()
    for host in ("0.0.0.0", "::1"):
        done = run(PRODUCTION, env={**QUICK, "API_PORT": str(port), "API_HOST": host})
        assert done.status == 0, done.stderr


@pytest.mark.parametrize("script", [DEV, PRODUCTION, ULTRA])
def test_an_interpreter_that_is_not_there_starts_nothing(lab: Lab, script: str) -> None:
    port = free_port()
    server = lab.start("answering", port)

    done = run(script, env={"PYTHON": "/nowhere/python", "API_PORT": str(port)})

    assert (done.status, done.stdout) == (127, "")
    assert "/nowhere/python is not installed" in done.stderr
    assert server.alive
