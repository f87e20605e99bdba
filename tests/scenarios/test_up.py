"""`ultra-ports up` with the real compose: it comes up and answers, or says why not."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.cli import COMMAND, Run, ultra
from tests.lab.compose import published, stack
from tests.lab.engine import broken_socket
from tests.lab.ports import free_port, is_free
from tests.lab.processes import ROOT, answered_by, unavailable, wait_until
from tests.lab.systemd import borrowed, service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.compose import Project
    from tests.lab.engine import Engine
    from tests.lab.processes import Lab
    from tests.lab.systemd import Machine

pytestmark = [pytest.mark.engine, pytest.mark.slow]

FAST = ("--settle", "0.3", "--grace", "1")
IMPATIENT = ("--wait", "1")


def up(project: Project, *arguments: str, env: dict[str, str] | None = None) -> Run:
    return ultra("up", *project.options, *FAST, "--json", *arguments, env=env, timeout=100)


def answers(run: Run) -> dict[str, tuple[bool | None, str]]:
    """Whether each service answers, and why."""
    return {each["service"]: (each["answers"], each["reason"]) for each in run.json["ports"]}


def assert_up(run: Run) -> None:
    assert run.status == 0, run.stdout + run.stderr
    assert run.json["ports"]
    assert all(each["answers"] is True for each in run.json["ports"]), run.stdout


@pytest.fixture
def bystanders(engine: Engine, lab: Lab) -> Iterator[None]:
    """A server and a container, on ports of their own, that answer throughout."""
    port, other = free_port(), free_port()
    server, container = lab.start("answering", port), engine.publish(f"{other}:80")
    container.wait_for(other)
    before = container.id
    yield
    assert answered_by(port) == server.pid
    assert container.serves(other)
    assert container.id == before


@pytest.mark.usefixtures("bystanders")
def test_a_local_process_in_the_way(engine: Engine, lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    server = lab.start("answering", port, "--tcp", "0.0.0.0")
    with stack(engine, tmp_path, {"web": published(port), "db": {}}) as shop:
        run = up(shop)

        assert_up(run)
        assert not server.alive
        assert shop.container("web").serves(port)
        assert run.json["schema"] == "ultra-ports.up/1"
        assert [each["verdict"] for each in run.json["resolved"]] == ["freed"]
        assert run.json["compose"]["exit_status"] == 0
        (checked,) = run.json["ports"]
        assert checked["container"] == shop.container("web").name
        assert checked["binding"]["port"] == port


@pytest.mark.usefixtures("bystanders")
def test_another_projects_container_in_the_way(engine: Engine, tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    services = {"web": published(port), "api": published(other)}
    with (
        stack(engine, tmp_path / "a", services) as theirs,
        stack(engine, tmp_path / "b", {"web": published(port)}) as ours,
    ):
        theirs("up", "--detach")
        theirs.container("web").wait_for(port)

        assert_up(up(ours))

        assert ours.container("web").serves(port)
        assert theirs.container("web").state == "exited"
        assert theirs.container("api").serves(other)


@pytest.mark.usefixtures("bystanders")
def test_itself_in_the_way(engine: Engine, tmp_path: Path) -> None:
    port = free_port()
    with stack(engine, tmp_path, {"web": published(port)}) as shop:
        assert_up(up(shop))
        before = shop.container("web").id

        run = up(shop)

        assert_up(run)
        assert run.json["resolved"] == []
        assert shop.container("web").id == before


def test_a_server_on_the_other_family_is_a_bystander(
    engine: Engine, lab: Lab, tmp_path: Path
) -> None:
    """An engine publishes on [::] for IPv6 alone."""
    port = free_port()
    server = lab.start("answering", port, "--tcp", "0.0.0.0")
    with stack(engine, tmp_path, {"web": published(f"[::]:{port}:80")}) as shop:
        run = up(shop)
        assert_up(run)
        assert run.json["resolved"] == []
        assert answered_by(port) == server.pid
        assert shop.container("web").serves(port, "::1")


@pytest.mark.systemd
def test_a_systemd_service_in_the_way(machine: Machine) -> None:
    """In a machine of its own, with a compose plug-in and no engine: refused before it matters."""
    port = free_port()
    name = f"lab-{port}"
    folder = f"/run/{name}"
    file = f"{folder}/compose.json"
    machine.run("mkdir", "-p", folder)
    text = f'{{"services": {{"web": {{"image": "x", "ports": ["{port}:80"]}}}}}}'
    machine.run("tee", file, stdin=text)
    machine.write(f"{name}.service", service(port, "always"))
    machine.systemctl("start", f"{name}.service")
    try:
        pid = machine.wait_for(port)

        looked = machine.ultra("preflight", "-f", file, "--json")
        assert looked.status == 3, looked.stdout + looked.stderr
        assert f"{name}.service" in looked.json["findings"][0]["message"]

        run = machine.ultra("up", "-f", file, *FAST, "--json")
        assert run.status == 3, run.stdout + run.stderr
        (refused,) = run.json["resolved"]
        assert refused["verdict"] == "advised"
        step = refused["holders"][0]["step"]
        assert any(f"systemctl stop {name}.service" in line for line in step["command_lines"])
        assert run.json["compose"] is None
        assert machine.server(port) == pid

        stopped = machine.ultra("resolve", "--compose", "-f", file, *FAST, "--stop-services")
        assert stopped.status == 0, stopped.stdout + stopped.stderr
        assert machine.stays_free(port, 0.5)
    finally:
        machine.systemctl("stop", f"{name}.service")


def test_a_caller_in_the_way(engine: Engine, lab: Lab, tmp_path: Path) -> None:
    """The server that runs `ultra-ports up` holds the port: refused, and nothing is started."""
    port = free_port()
    with stack(engine, tmp_path, {"web": published(port)}) as shop:
        argv = [COMMAND, "up", *shop.options, *FAST, "--json"]
        code = (
            "import socket, subprocess, sys\n"
            "held = socket.create_server(('0.0.0.0', int(sys.argv[1])))\n"
            "sys.exit(subprocess.run(sys.argv[2:]).returncode)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(port), *argv],
            env={**os.environ, **lab.marked()},
            capture_output=True,
            text=True,
            check=False,
        )
        run = Run(done.returncode, done.stdout, done.stderr)
        assert run.status == 3, run.stdout + run.stderr
        assert [each["verdict"] for each in run.json["resolved"]] == ["refused"]
        assert run.json["compose"] is None
        assert shop("ps", "--all", "--quiet") == ""


def test_conflicts_in_the_file(engine: Engine, lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    server = lab.start("answering", port)
    services = {"web": published(port), "api": published(port)}
    with stack(engine, tmp_path, services) as shop:
        run = up(shop)
        assert run.status == 3, run.stdout + run.stderr
        assert run.json["refusal"]
        assert run.json["compose"] is None
        assert answered_by(port) == server.pid
        text = ultra("up", *shop.options)
        assert (text.status, "nothing was started" in text.stdout) == (3, True)


# --- in between -----------------------------------------------------------------------------------


@pytest.fixture
def slow_compose(tmp_path: Path) -> dict[str, str]:
    """A PATH whose `docker compose up` says that it begins, and waits until it may go on.

    A Ctrl-C ends it, as it does compose, and is written down.
    """
    docker = shutil.which("docker") or unavailable("the docker command is missing")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    script = bin_ / "docker"
    script.write_text(
        "#!/bin/sh\n"
        f"trap 'echo INT > {tmp_path}/interrupted; exit 130' INT\n"
        'case " $* " in *" up "*)\n'
        f"  : > {tmp_path}/begun\n"
        f"  until [ -e {tmp_path}/go ]; do sleep 0.05; done ;;\n"
        "esac\n"
        f'exec {docker} "$@"\n'
    )
    script.chmod(0o755)
    return {"PATH": f"{bin_}:{os.environ['PATH']}"}


@pytest.mark.usefixtures("bystanders")
def test_a_port_that_is_taken_in_between(
    engine: Engine, lab: Lab, tmp_path: Path, slow_compose: dict[str, str]
) -> None:
    port = free_port()
    with stack(engine, tmp_path, {"web": published(port)}) as shop:
        with subprocess.Popen(
            [COMMAND, "up", *shop.options, *FAST, "--json"],
            env={**os.environ, **slow_compose},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as running:
            wait_until((tmp_path / "begun").exists, "compose begins")
            server = lab.start("answering", port, "--tcp", "0.0.0.0")
            (tmp_path / "go").touch()
            stdout, stderr = running.communicate(timeout=60)
        run = Run(running.returncode, stdout, stderr)

        assert run.status == 1, run.stdout + run.stderr
        assert run.json["compose"]["exit_status"] != 0
        (taken,) = run.json["taken_by"]
        assert taken["label"] == f"{port}/tcp"
        assert [each["pid"] for each in taken["holders"][0]["processes"]] == [server.pid]
        assert answered_by(port) == server.pid


def test_ctrl_c_reaches_compose(
    engine: Engine, tmp_path: Path, slow_compose: dict[str, str]
) -> None:
    with stack(engine, tmp_path, {"web": published(free_port())}) as shop:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            running = subprocess.Popen(
                [COMMAND, "up", *shop.options],
                env={**os.environ, **slow_compose},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,  # no terminal: the signal is sent to us alone
            )
        finally:
            signal.signal(signal.SIGINT, before)
        with running:
            try:
                wait_until((tmp_path / "begun").exists, "compose begins")
                running.send_signal(signal.SIGINT)
                _, stderr = running.communicate(timeout=30)
            finally:
                (tmp_path / "go").touch()  # nobody waits for ever, whatever went wrong
                running.kill()
        assert running.returncode == 130, stderr
        assert (tmp_path / "interrupted").read_text() == "INT\n"
        assert "interrupted: began docker compose" in stderr
        assert shop("ps", "--all", "--quiet") == ""


# --- what does not answer -------------------------------------------------------------------------

LISTENS = "until busybox netstat -ltn | busybox grep -q :80; do :; done"
MUTE: dict[str, tuple[list[str], str]] = {
    "nothing-listens": (["sleep", "1000"], "nothing listens on 80/tcp in the container"),
    "loopback-only": (
        ["busybox", "httpd", "-f", "-p", "127.0.0.1:80"],
        "listens on 127.0.0.1 in the container",
    ),
    "frozen": (
        ["sh", "-c", f"nc -ll -p 80 -e cat & {LISTENS}; kill -STOP $$!; wait"],
        "takes no connection",
    ),
    "it-hangs-up": (["nc", "-ll", "-p", "80", "-e", "touch", "/x"], "closed at once"),
}
ENDING = {"it-ends": (["sh", "-c", "exit 7"], "is exited with status 7")}


@pytest.mark.parametrize(
    ("mute", "wait"), [(MUTE, "1"), (ENDING, "5")], ids=["that run", "that ends"]
)
def test_apps_that_do_not_answer(
    engine: Engine, tmp_path: Path, mute: dict[str, tuple[list[str], str]], wait: str
) -> None:
    # One that ends runs at first, and is looked for inside as the others are
    services = {
        name: published(free_port(), command=command, stop_grace_period="0s", init=True)
        for name, (command, _) in mute.items()
    }
    with stack(engine, tmp_path, {**services, "fine": published(free_port())}) as shop:
        run = up(shop, "--wait", wait)

        assert run.status == 1, run.stdout + run.stderr
        found = answers(run)
        assert found["fine"][0] is True
        text = ultra("up", *shop.options, "-q", "--wait", wait)
        assert text.status == 1
        for name, (_, reason) in mute.items():
            assert found[name][0] is False
            assert reason in found[name][1]
            told = rf"(?m)^not answering: .+ of {name}: .*{re.escape(reason)}"
            assert re.search(told, text.stdout), text.stdout


def test_a_server_that_takes_its_time(engine: Engine, tmp_path: Path) -> None:
    port = free_port()
    late = ["sh", "-c", "sleep 2; exec nc -ll -p 80 -e cat"]
    web = published(port, command=late, stop_grace_period="0s")
    with stack(engine, tmp_path, {"web": web}) as shop:
        assert_up(up(shop, "--wait", "30"))


def test_udp_is_looked_at_in_the_container(engine: Engine, tmp_path: Path) -> None:
    port = free_port()
    echo = [sys.executable, "-B", "-S", "-m", "tests.lab.servers.answering", "53"]
    host = [f"{path}:{path}:ro" for path in (*borrowed(), Path("/lib"), Path("/lib64"))]
    dns = published(
        f"{port}:53/udp",
        command=[*echo, "--udp", "0.0.0.0"],
        volumes=[each for each in host if Path(each.partition(":")[0]).exists()],
        working_dir=str(ROOT),
        stop_grace_period="0s",
    )
    mute = published(f"{free_port()}:53/udp", stop_grace_period="0s", command=["sleep", "1000"])
    with stack(engine, tmp_path, {"dns": dns}) as shop:
        assert_up(up(shop, "--wait", "30"))
        shop.write({"dns": dns, "mute": mute})
        run = up(shop, *IMPATIENT)
        assert run.status == 1, run.stdout + run.stderr
        assert answers(run)["dns"][0] is True
        assert "nothing is bound on 53/udp" in answers(run)["mute"][1]


def test_automatic_ports_are_looked_up(engine: Engine, tmp_path: Path) -> None:
    fixed = free_port()
    with stack(engine, tmp_path, {"web": published(fixed, "127.0.0.1::80")}) as shop:
        run = up(shop)
        assert_up(run)
        found = {each["automatic"]: each["binding"] for each in run.json["ports"]}
        assert found[False]["port"] == fixed
        assert found[True]["address"] == "127.0.0.1"
        assert shop.container("web").serves(found[True]["port"])
        text = ultra("up", *shop.options)
        assert f"127.0.0.1:{found[True]['port']}/tcp (automatic)" in text.stdout


# --- arguments for compose ------------------------------------------------------------------------


def test_only_what_is_named_is_started_and_freed(engine: Engine, lab: Lab, tmp_path: Path) -> None:
    port, needed, other = free_port(), free_port(), free_port()
    server = lab.start("answering", other)
    services = {
        "web": published(port, depends_on=["db"]),
        "db": published(needed),
        "other": published(other),
    }
    with stack(engine, tmp_path, services) as shop:
        run = up(shop, "--", "web")
        assert_up(run)
        assert set(answers(run)) == {"web", "db"}
        assert answered_by(other) == server.pid


def test_scale_and_remove_orphans(engine: Engine, tmp_path: Path) -> None:
    port = free_port()
    with stack(engine, tmp_path, {"old": published(port)}) as shop:
        shop("up", "--detach")
        shop.container("old").wait_for(port)
        shop.write({"web": published(port)})

        assert up(shop).status == 3
        assert up(shop, "--", "--remove-orphans", "--scale", "web=2").status == 3  # one port
        assert shop.container("old").serves(port)
        assert_up(up(shop, "--", "--remove-orphans"))
        assert shop.container("old").state == "absent"


@pytest.mark.parametrize(
    "arguments",
    [("--no-start",), ("--watch",), ("--abort-on-container-exit",), ("--scale", "web"), ("nope",)],
)
def test_arguments_that_do_not_fit(
    engine: Engine, lab: Lab, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    port = free_port()
    server = lab.start("answering", port)
    with stack(engine, tmp_path, {"web": published(port)}) as shop:
        run = up(shop, "--", *arguments)
        assert (run.status, run.stdout) == (2, ""), run.stderr
        assert len(run.stderr.splitlines()) == 1
        assert answered_by(port) == server.pid


def test_compose_itself_fails(engine: Engine, tmp_path: Path) -> None:
    port = free_port()
    missing = published(port, image=f"ultra-ports-lab:{engine.mark}-missing", pull_policy="never")
    with stack(engine, tmp_path, {"web": missing}) as shop:
        run = up(shop, "-q")
        assert run.status == 1, run.stdout + run.stderr
        assert run.json["compose"]["exit_status"] != 0
        assert run.json["taken_by"] == []
        assert "missing" in run.stderr  # what compose said
        assert is_free(port)


def test_a_remote_engine_is_not_verified(
    engine: Engine, engine_without_proxy: Engine, tmp_path: Path
) -> None:
    """Its ports are in another network namespace: nobody here can ask them."""
    del engine
    far, port = engine_without_proxy, free_port()
    described: dict[str, Any] = {"web": published(port)}
    with stack(far, tmp_path, described) as shop, socket.create_server(("", port)) as here:
        run = up(shop, *IMPATIENT, env=far.env)
        assert run.status == 5, run.stdout + run.stderr
        assert answers(run)["web"][0] is None
        assert here.fileno() > 0
        assert run.json["resolved"] == []  # what holds it here is in nobody's way there


@pytest.mark.parametrize("options", [["--nonsense"], ["--timeout", "soon"], ["--wait=perhaps"]])
def test_options_that_compose_does_not_know_touch_nothing(
    engine: Engine, lab: Lab, tmp_path: Path, options: list[str]
) -> None:
    port = free_port()
    server = lab.start("answering", port)
    with stack(engine, tmp_path, {"web": published(f"{port}:80")}) as shop:
        run = ultra("up", *shop.options, "--", *options)
        assert (run.status, run.stdout) == (2, ""), run.stderr
        assert len(run.stderr.splitlines()) == 1
        assert server.alive
        assert not shop("ps", "--quiet")


def test_an_engine_that_cannot_start_the_project_is_found_out_first(
    engine: Engine, lab: Lab, tmp_path: Path
) -> None:
    port, other = free_port(), free_port()
    server = lab.start("answering", port)
    neighbour = engine.publish(f"{other}:80")
    neighbour.wait_for(other)
    services = {"web": published(f"{port}:80"), "api": published(f"{other}:80")}
    with stack(engine, tmp_path, services) as shop, broken_socket(None) as wedged:
        run = ultra(
            *("up", *shop.options, "--docker-timeout", "0.5"),
            env={"DOCKER_HOST": f"unix://{wedged}"},
        )
        assert run.status == 5, run.stdout + run.stderr
        assert "nothing can be started" in run.stdout + run.stderr
        assert server.alive
        assert neighbour.serves(other)
