"""A command that runs in a container, and machines with several engines."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.lab import runner as runners
from tests.lab.cli import Run, holders, ultra
from tests.lab.engine import IDLE, broken_socket
from tests.lab.ports import free_port
from tests.lab.processes import ROOT, stays_free, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.engine import Container, Engine
    from tests.lab.processes import Lab
    from tests.lab.runner import Runner

pytestmark = [pytest.mark.engine, pytest.mark.slow]

FAST = ("--settle", "0.3", "--json")
PROJECT, SERVICE = "--label=com.docker.compose.project=", "--label=com.docker.compose.service="


@pytest.fixture(scope="module")
def image(local_engine: Engine) -> Iterator[str]:
    reference = runners.image(local_engine.marked())
    yield reference
    local_engine("rmi", "--force", reference)


@pytest.fixture
def runner(engine: Engine, image: str) -> Runner:
    """A runner with the engine's socket, and a network of its own."""
    return runners.start(engine, image)


def published(engine: Engine, port: int, *options: str) -> Container:
    web = engine.publish(f"{port}:80", options=["--stop-timeout=1", *options])
    web.wait_for(port)
    return web


def notes(run: Run, port: int) -> str:
    return " ".join(run.port(f"{port}/tcp")["notes"])


# --- in a container -------------------------------------------------------------------------------


def test_both_places_are_told_apart_and_freed(engine: Engine, runner: Runner) -> None:
    port = free_port()
    web = published(engine, port)
    server = ["/usr/bin/python3", "-B", "-m", "tests.lab.servers.answering", str(port)]
    engine("exec", "-d", f"--workdir={ROOT}", runner.container.name, *server)
    wait_until(
        lambda: (
            "local"
            in {
                each["kind"]
                for each in runner.ultra("who", "--json", str(port)).port(f"{port}/tcp")["holders"]
            }
        ),
        "the server inside holds the port",
    )

    run = runner.ultra("resolve", *FAST, str(port))

    assert run.status == 0, run.stdout + run.stderr
    found = {(each["kind"], each["state"]) for each in holders(run, port)}
    assert found == {("local", "listening"), ("container", "published")}
    assert "two places" in notes(run, port)
    assert "on the word of unix:///var/run/docker.sock" in notes(run, port)
    assert web.state == "exited"
    assert runner.container.state == "running"
    assert stays_free(port)


def test_a_rootless_engines_socket_that_was_let_in_is_believed(engine: Engine, image: str) -> None:
    """In /run/user/1000 of a container, uids may be mapped: who listens there says nothing."""
    port, path = free_port(), "/run/user/1000/docker.sock"
    web = published(engine, port)
    runner = runners.start(engine, image, f"--volume={engine.socket}:{path}")
    run = runner.ultra("who", "--json", str(port), DOCKER_HOST=f"unix://{path}")
    (name,) = {each["container"]["name"] for each in holders(run, port)}
    assert name == web.name


def test_a_free_port_says_for_which_places(runner: Runner) -> None:
    port = free_port()
    run = runner.ultra("resolve", *FAST, str(port))
    assert run.status == 0, run.stdout + run.stderr
    assert run.port(f"{port}/tcp")["verdict"] == "free"
    assert "two places" in notes(run, port)


def test_on_the_hosts_network_there_is_one_place(engine: Engine, image: str) -> None:
    port = free_port()
    web = published(engine, port)
    runner = runners.start(engine, image, "--network=host")

    run = runner.ultra("resolve", *FAST, str(port))

    assert run.status == 0, run.stdout + run.stderr
    assert {each["state"] for each in holders(run, port)} == {"listening"}
    assert not notes(run, port)
    assert web.state == "exited"
    assert stays_free(port)


@pytest.mark.parametrize("namespace", ["host", "private"])
def test_its_own_container_is_refused(engine: Engine, image: str, namespace: str) -> None:
    port = free_port()
    options = (f"--publish={port}:80", f"--cgroupns={namespace}")
    runner = runners.start(engine, image, *options)

    run = runner.ultra("resolve", "--force", *FAST, str(port))

    assert run.status == 3, run.stdout + run.stderr
    assert run.port(f"{port}/tcp")["verdict"] == "refused"
    assert {each["kind"] for each in holders(run, port)} == {"ancestor"}
    assert runner.container.state == "running"


HOST = ("--pid=host", "--network=host")


@pytest.mark.parametrize(
    ("options", "before", "after"),
    [
        pytest.param(HOST, "exec ", "", id="the machine's processes"),
        pytest.param((), "echo starts; ", "; echo ended", id="a script"),
        pytest.param((), "exec tini -- ", "", id="an init"),
        pytest.param((), "exec tini -- sh -c '", "; true'", id="an init with a script"),
    ],
)
def test_what_its_own_container_runs_is_refused(
    engine: Engine, image: str, options: tuple[str, ...], before: str, after: str
) -> None:
    """`docker exec` starts the command beside it: it is no ancestor, and yet the end of both."""
    port = free_port()
    runner = runners.start(engine, image, *options, command=_shell(port, before, after))
    flags = ("--force", "--accept-loss", "--stop-services", "--take")

    run = _resolved_once_served(runner, port, *flags)

    assert run.status == 3, run.stdout + run.stderr
    assert run.port(f"{port}/tcp")["verdict"] == "refused"
    assert "the container that this command runs in" in run.port(f"{port}/tcp")["reason"]
    assert runner.container.state == "running"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("", " & exec sleep 1000", id="beside the main process"),
        pytest.param("exec tini -- sh -c '", " & exec sleep 1000'", id="below an init's child"),
        pytest.param("(setsid ", " & ); sleep 1000; true", id="a daemon"),
    ],
)
def test_what_its_own_container_outlives_is_ended(
    engine: Engine, image: str, before: str, after: str
) -> None:
    port = free_port()
    runner = runners.start(engine, image, command=_shell(port, before, after))

    run = _resolved_once_served(runner, port)

    assert run.status == 0, run.stdout + run.stderr
    assert run.port(f"{port}/tcp")["verdict"] == "freed"
    assert runner.container.state == "running"


def _shell(port: int, before: str, after: str) -> tuple[str, ...]:
    server = f"{sys.executable} -m http.server {port}"
    return ("/bin/sh", "-c", f"{before}{server}{after}")


def _resolved_once_served(runner: Runner, port: int, *flags: str) -> Run:
    wait_until(
        lambda: runner.ultra("who", "--json", str(port)).port(f"{port}/tcp")["verdict"] == "held",
        "the server listens in the container",
    )
    return runner.ultra("resolve", *FAST, *flags, str(port))


def test_its_own_compose_project_takes_force(engine: Engine, image: str) -> None:
    port, other = free_port(), free_port()
    sibling = published(engine, port, f"{PROJECT}ci{port}", f"{SERVICE}web")
    stranger = published(engine, other, f"{PROJECT}ci{other}", f"{SERVICE}web")
    runner = runners.start(engine, image, f"{PROJECT}ci{port}", f"{SERVICE}runner")

    run = runner.ultra("resolve", *FAST, str(port), str(other))

    assert run.status == 3, run.stdout + run.stderr
    refused = run.port(f"{port}/tcp")
    assert refused["verdict"] == "refused"
    assert f"compose project ci{port}" in refused["reason"]
    assert "--force" in refused["reason"]
    assert run.port(f"{other}/tcp")["verdict"] == "freed"
    assert stranger.state == "exited"
    assert sibling.serves(port)

    forced = runner.ultra("resolve", "--force", *FAST, str(port))

    assert forced.status == 0, forced.stdout + forced.stderr
    assert sibling.state == "exited"
    assert runner.container.state == "running"


def test_its_own_pod_is_refused(engine: Engine, image: str) -> None:
    """The labels are those of a kubelet: what it would scale down is what the command runs in."""
    port = free_port()
    pod = ("--label=io.kubernetes.pod.name=ci-0", "--label=io.kubernetes.pod.uid=6f1c2a52")
    sidecar = published(engine, port, *pod)
    runner = runners.start(engine, image, *pod)

    run = runner.ultra("resolve", "--stop-services", "--force", *FAST, str(port))

    assert run.status == 3, run.stdout + run.stderr
    assert run.port(f"{port}/tcp")["verdict"] == "refused"
    assert sidecar.serves(port)


def test_a_container_that_is_started_again_elsewhere_is_no_success(
    engine: Engine, runner: Runner
) -> None:
    """Nothing here can be bound for proof, so the engine is asked again."""
    port = free_port()
    web = published(engine, port)

    def watchdog() -> None:
        wait_until(lambda: web.state == "exited", "it was stopped")
        engine("start", web.name)

    thread = threading.Thread(target=watchdog)
    thread.start()
    run = runner.ultra("resolve", "--settle", "1.5", "--json", str(port))
    thread.join()

    assert run.status == 1, run.stdout + run.stderr
    report = run.port(f"{port}/tcp")
    assert report["verdict"] == "retaken"
    assert {each["container"]["name"] for each in report["retaken_by"]} == {web.name}
    web.wait_for(port)


def test_another_container_that_takes_the_port_elsewhere_is_worked_on(
    engine: Engine, runner: Runner
) -> None:
    port = free_port()
    web = published(engine, port)
    name = f"lab-second-{port}"

    def rival() -> None:
        wait_until(lambda: web.state == "exited", "it was stopped")
        marks = ("--name", name, "--label", f"ultra-ports-lab={engine.mark}", "--stop-timeout=1")
        engine("run", "-d", *marks, f"--publish={port}:80", engine.image, "sh", "-c", IDLE)

    thread = threading.Thread(target=rival)
    thread.start()
    run = runner.ultra("resolve", "--settle", "1.5", "--json", str(port))
    thread.join()

    assert run.status == 0, run.stdout + run.stderr
    names = {each["container"]["name"] for each in holders(run, port)}
    assert names == {web.name, name}
    assert f"taken back by container {name}" in notes(run, port)
    assert stays_free(port)


# --- several engines ------------------------------------------------------------------------------


def inside(engine: Engine, *arguments: str, **env: str) -> Run:
    """Runs the command where the engine publishes ports, without naming the engine."""
    return ultra(*arguments, env=env, prefix=engine.enter)


def test_an_engine_over_tcp_with_ports_of_its_own(engine_without_proxy: Engine, lab: Lab) -> None:
    """As with DOCKER_HOST=tcp://docker:2375: what it publishes is not what is bound here."""
    port = free_port()
    web = engine_without_proxy.publish(f"{port}:80", options=["--stop-timeout=1"])
    server = lab.start("answering", port)
    with runners.over_tcp(engine_without_proxy.socket) as host:
        run = ultra("resolve", *FAST, str(port), env={"DOCKER_HOST": host})

    assert run.status == 0, run.stdout + run.stderr
    found = {(each["kind"], each["state"]) for each in holders(run, port)}
    assert found == {("local", "listening"), ("container", "published")}
    assert f"on the word of {host}" in notes(run, port)
    assert "two places" in notes(run, port)
    assert not server.alive
    assert web.state == "exited"


def test_one_engine_by_two_paths_is_one(engine: Engine) -> None:
    port = free_port()
    web = published(engine, port)
    with runners.over_tcp(engine.socket) as host:
        run = ultra("resolve", *FAST, str(port), env={"DOCKER_HOST": host})

    assert run.status == 0, run.stdout + run.stderr
    assert [each["state"] for each in holders(run, port)] == ["listening", "listening"]
    assert {each["container"]["name"] for each in holders(run, port)} == {web.name}
    assert not notes(run, port)
    assert stays_free(port)


def test_one_engine_by_two_paths_stops_a_container_once(engine: Engine) -> None:
    """Between two restarts the container has no socket: only the engine knows of its port."""
    port = free_port()
    loop = engine.publish(f"{port}:80", options=["--restart=always"], script="exit 1")
    wait_until(
        lambda: int(loop.inspect("{{.RestartCount}}")) >= 4 and loop.state == "restarting",
        "the container is in a restart loop",
    )
    with runners.over_tcp(engine.socket) as host:
        run = ultra("who", "--json", str(port), env={"DOCKER_HOST": host})

    assert run.status == 0, run.stdout + run.stderr
    assert [each["binding"]["address"] for each in holders(run, port)] == ["0.0.0.0", "::"]


def test_a_context_chooses_the_engine(engine_without_proxy: Engine, tmp_path: Path) -> None:
    engine, port = engine_without_proxy, free_port()
    web = engine.publish(f"{port}:80", options=["--stop-timeout=1"])
    engine("--config", str(tmp_path), "context", "create", "lab", f"--docker=host={engine.host}")
    chosen = {"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "lab"}

    run = inside(engine, "resolve", *FAST, str(port), **chosen)

    assert run.status == 0, run.stdout + run.stderr
    assert all(
        each["step"]["command_lines"] == [f"docker stop {web.name}"] for each in holders(run, port)
    )
    assert not notes(run, port)
    assert web.state == "exited"


def test_a_context_that_does_not_exist_is_said_in_one_line(tmp_path: Path) -> None:
    chosen = {"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "gone", "DOCKER_HOST": ""}

    run = ultra("who", str(free_port()), env=chosen)

    assert run.status == 0
    assert run.stderr == (
        "ultra-ports: partial answer, without its containers: docker context 'gone': there is no "
        "such context (DOCKER_CONTEXT names it, `docker context ls` lists them)\n"
    )


def test_the_engine_behind_the_port_is_found_by_its_daemon(engine_without_proxy: Engine) -> None:
    engine, port = engine_without_proxy, free_port()
    web = engine.publish(f"{port}:80", options=["--stop-timeout=1"])

    run = inside(engine, "resolve", *FAST, str(port))

    assert run.status == 0, run.stdout + run.stderr
    (stop,) = {command for each in holders(run, port) for command in each["step"]["command_lines"]}
    assert stop == f"docker -H {engine.host} stop {web.name}"
    assert web.state == "exited"


@pytest.mark.parametrize(
    ("name", "client"), [("docker.sock", "docker -H"), ("podman/podman.sock", "podman --url")]
)
def test_a_users_own_engine_is_found_by_its_socket(
    engine_without_proxy: Engine, tmp_path: Path, name: str, client: str
) -> None:
    """A container on the host's network: nothing but its cgroup leads to its engine."""
    engine, port = engine_without_proxy, free_port()
    link = tmp_path / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(engine.socket)
    web = engine.start("--network=host", "--stop-timeout=1", listen=port)
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}

    def held() -> bool:
        return bool(
            inside(engine, "who", "--json", str(port), **env).port(f"{port}/tcp")["holders"]
        )

    wait_until(held, "the container holds the port")
    run = inside(engine, "resolve", *FAST, str(port), **env)

    assert run.status == 0, run.stdout + run.stderr
    (holder,) = holders(run, port)
    assert holder["step"]["command_lines"] == [f"{client} unix://{link} stop {web.name}"]
    assert web.state == "exited"


def test_an_engine_that_was_merely_found_and_publishes_elsewhere_is_let_be(
    engine_without_proxy: Engine, tmp_path: Path
) -> None:
    port = free_port()
    web = engine_without_proxy.publish(f"{port}:80")
    (tmp_path / "docker.sock").symlink_to(engine_without_proxy.socket)

    run = ultra("resolve", *FAST, str(port), env={"XDG_RUNTIME_DIR": str(tmp_path)})

    assert run.status == 0, run.stdout + run.stderr
    assert run.port(f"{port}/tcp")["verdict"] == "free"
    assert not notes(run, port)
    assert web.state == "running"


def test_a_wedged_engine_does_not_keep_another_from_answering(
    engine: Engine, tmp_path: Path
) -> None:
    port = free_port()
    web = published(engine, port)
    with broken_socket(None) as path:
        (tmp_path / "docker.sock").symlink_to(path)
        env = {"XDG_RUNTIME_DIR": str(tmp_path)}
        run = ultra("resolve", "--docker-timeout=0.5", *FAST, str(port), env=env)

    assert run.status == 0, run.stdout + run.stderr
    assert {each["container"]["name"] for each in holders(run, port)} == {web.name}
    assert f"{tmp_path}/docker.sock did not answer in 0.5 s" in " ".join(run.json["notes"])
    assert stays_free(port)
