"""What else would be lost with a container: people, data and containers that depend on it."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from resolver import api, portspec
from resolver.model import Plan, Policy, Result, StopContainerStep
from resolver.pipeline import diagnose, prove
from resolver.strategies import apply
from tests.lab.cli import Run, ultra
from tests.lab.compose import published, stack
from tests.lab.engine import LABEL, Container
from tests.lab.ports import free_port, is_free
from tests.lab.processes import unavailable, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.engine import Engine
    from tests.lab.processes import Lab

pytestmark = [pytest.mark.engine, pytest.mark.root]

HOST = ("usr", "lib", "lib64", "etc")  # of this machine, for programs that the image has not
MOUNTS = [f"--volume=/{folder}:/{folder}:ro" for folder in HOST if Path("/", folder).exists()]


def resolve(port: int, *options: str) -> Run:
    return ultra("resolve", "--json", "--settle", "0.3", *options, str(port))


def losses(run: Run, port: int) -> list[dict[str, Any]]:
    holder, *_ = run.port(f"{port}/tcp")["holders"]
    found: list[dict[str, Any]] = holder["collateral"]
    return found


def refused(port: int, kind: str) -> dict[str, Any]:
    """Nothing is stopped, and the loss of this kind is named."""
    run = resolve(port)
    assert run.status == 3, run.stdout
    assert not is_free(port)
    [loss] = [each for each in losses(run, port) if each["kind"] == kind]
    assert loss["degree"] == "refused"
    return loss


def accepted(port: int) -> None:
    assert resolve(port, "--accept-loss").status == 0
    assert is_free(port)


def mentioned(port: int, kind: str) -> str:
    """It is stopped, and what goes with it is said."""
    run = resolve(port)
    assert run.status == 0, run.stdout
    assert is_free(port)
    texts = [each["text"] for each in losses(run, port) if each["kind"] == kind]
    return "; ".join(texts)


@contextlib.contextmanager
def on_a_terminal(*words: str) -> Iterator[None]:
    """Runs a shell's command line on a terminal of its own, from its first prompt on."""
    client, terminal = pty.fork()
    if client == 0:
        os.execvp(words[0], words)  # noqa: S606
    try:
        said = b""
        while b"# " not in said:
            said += os.read(terminal, 4096)
        yield
    finally:
        os.kill(client, signal.SIGKILL)
        os.close(terminal)
        os.waitpid(client, 0)


def test_a_shell_that_somebody_opened_in_it(engine: Engine) -> None:
    port = free_port()
    web = engine.publish(f"{port}:80")
    web.wait_for(port)
    with on_a_terminal("docker", "exec", "-it", web.name, "sh"):
        loss = refused(port, "session")
        assert loss["text"].startswith("the terminal session of sh ")
        accepted(port)


def test_a_program_that_was_execd_without_a_terminal_is_nobodys(engine: Engine) -> None:
    """Such as a health check."""
    port = free_port()
    web = engine.publish(f"{port}:80")
    web.wait_for(port)
    engine("exec", "-d", web.name, "sleep", "600")
    assert mentioned(port, "session") == ""


def test_a_terminal_that_nobody_looks_at(engine: Engine) -> None:
    """`tty: true` with a shell keeps a container up."""
    port = free_port()
    web = engine.start("-it", f"--publish={port}:80", command=("sh",))
    wait_until(lambda: web.state == "running", "it is up")
    assert mentioned(port, "session") == ""


def test_a_shell_in_the_foreground(engine: Engine) -> None:
    port = free_port()
    web = Container(engine, f"lab-shell-{port}")
    marks = ["--label", f"{LABEL}={engine.mark}", "--name", web.name]
    with on_a_terminal("docker", "run", "-it", *marks, "-p", f"{port}:80", engine.image, "sh"):
        assert "the terminal session of sh " in refused(port, "session")["text"]
        accepted(port)


@pytest.mark.parametrize("option", ["--abort-on-container-exit", "--exit-code-from=web"])
def test_compose_ends_the_others_when_one_ends(
    engine: Engine, lab: Lab, tmp_path: Path, option: str
) -> None:
    port = free_port()
    with stack(engine, tmp_path, {"web": published(port), "db": {}}) as project:
        up = ["docker", "compose", "-p", project.name, "-f", str(tmp_path / "compose.json"), "up"]
        lab.command(*up, option)
        project.container("web").wait_for(port)
        loss = refused(port, "siblings")
        assert loss["text"].endswith(f" runs beside it: {project.container('db').name}")
        assert project.container("db").state == "running"
        accepted(port)
        lab.reap()


def test_compose_in_the_foreground_ends_nobody_else(
    engine: Engine, lab: Lab, tmp_path: Path
) -> None:
    port = free_port()
    with stack(engine, tmp_path, {"web": published(port), "db": {}}) as project:
        file = str(tmp_path / "compose.json")
        lab.command("docker", "compose", "-p", project.name, "-f", file, "up")
        project.container("web").wait_for(port)
        assert mentioned(port, "siblings") == ""
        assert project.container("db").state == "running"
        project.container("db").engine("stop", "-t", "0", project.container("db").name)
        lab.reap()


def test_a_container_that_is_removed_when_it_stops(engine: Engine) -> None:
    port = free_port()
    engine.publish(f"{port}:80", options=["--rm"]).wait_for(port)
    assert mentioned(port, "data") == "the container itself, with what was written in it"


def test_who_lives_in_its_network(engine: Engine) -> None:
    port = free_port()
    web = engine.publish(f"{port}:80")
    web.wait_for(port)
    sharer = engine.start(f"--network=container:{web.name}", command=("sleep", "600"))
    assert mentioned(port, "siblings") == f"the network of {sharer.name}"


def test_a_kernel_in_it(engine: Engine) -> None:
    """A stand-in with a kernel's command line."""
    port = free_port()
    web = engine.publish(
        f"{port}:80", script="sh -c 'sleep 600; true' /run/kernel-1.json & busybox httpd -f -p 80"
    )
    wait_until(lambda: not is_free(port), "it is up")
    assert "with all its variables" in refused(port, "state")["text"]
    assert web.state == "running"
    accepted(port)


@pytest.mark.parametrize("shims", [0, 2])
def test_containers_in_a_container(engine: Engine, shims: int) -> None:
    """Stand-ins with the names of an engine and its shims, as in a node of kind."""
    port = free_port()
    sleep = shutil.which("sleep")
    names = ["dockerd", *["containerd-shim-runc-v2"] * shims]
    node = engine.publish(
        f"{port}:80",
        options=[*MOUNTS, *(f"--volume={sleep}:/bin/{name}:ro" for name in dict.fromkeys(names))],
        script=f"{' '.join(f'/bin/{name} 600 &' for name in names)} busybox httpd -f -p 80",
    )
    wait_until(lambda: not is_free(port), "it is up")
    if not shims:
        assert mentioned(port, "machine").startswith("dockerd ")
        return
    assert refused(port, "machine")["text"] == "the 2 containers that run in it"
    assert node.state == "running"
    accepted(port)


def test_postgresql_in_the_middle_of_a_transaction(engine: Engine) -> None:
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        unavailable("PostgreSQL is missing")
    port, data = free_port(), "/tmp/data"  # noqa: S108 - in the container
    begin = f"{programs[0]}/initdb -A trust -N -U postgres -D {data} >/dev/null"
    serve = f"exec {programs[0]}/postgres -D {data} -k /tmp -c listen_addresses=*"
    server = engine.start(
        *("--user=65534:65534", "--tmpfs=/tmp:mode=1777", f"--publish={port}:5432", *MOUNTS),
        *("--stop-signal=SIGINT", f"--env=LD_LIBRARY_PATH={_libraries()}"),
        script=f"{begin} && {serve}",
    )
    enter = ["docker", "exec", "-i", server.name]
    ask = [*enter, f"{programs[0]}/psql", "-h", "/tmp", "-U", "postgres", "-q"]  # noqa: S108
    wait_until(lambda: subprocess.run([*ask, "-c", ""], capture_output=True).returncode == 0, "up")  # noqa: PLW1510

    with subprocess.Popen(ask, stdin=subprocess.PIPE) as client:
        assert client.stdin is not None
        client.stdin.write(b"begin;\ncreate table t (i int);\n")
        client.stdin.flush()
        top = ["docker", "top", server.name, "-eo", "pid,args"]
        wait_until(lambda: b"idle in transaction" in subprocess.check_output(top), "it has begun")
        loss = refused(port, "data")
        assert loss["text"].startswith("PostgreSQL")
        assert loss["command_lines"][0].startswith(f"docker exec {server.name} pg_ctl -D {data} ")
        run = resolve(port, "--accept-loss")
        assert run.status == 0, run.stdout
        client.kill()
    assert "database system is shut down" in _log(server)


def _libraries() -> str:
    return "/usr/lib/x86_64-linux-gnu" if Path("/usr/lib/x86_64-linux-gnu").exists() else ""


def _log(container: Container) -> str:
    words = ["docker", "logs", container.name]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def test_a_database_is_not_killed_by_the_engine_either(engine: Engine) -> None:
    """Redis, which is kept from answering; the patience is cut short."""
    redis = shutil.which("redis-server") or unavailable("redis-server is missing")
    port = free_port()
    server = engine.start(
        *("--stop-timeout=1", f"--publish={port}:6379", *MOUNTS),
        command=(redis, "--protected-mode", "no"),
    )
    wait_until(lambda: not is_free(port), "it is up")
    os.kill(server.pid, signal.SIGSTOP)
    effects = api.effects(None)
    requests = portspec.parse([str(port)])
    diagnosis = diagnose(requests, prove(requests, effects), Policy(), effects)
    [step] = diagnosis.plan.steps
    assert isinstance(step, StopContainerStep)
    assert step.patience_seconds == 60.0
    short = replace(
        step, patience_seconds=2.0, container=replace(step.container, stop_timeout_seconds=1)
    )

    [outcome] = apply(Plan((replace(diagnosis.plan.planned[0], step=short),)), Policy(), effects)

    assert outcome.result is Result.FAILED
    assert outcome.reason == "still ending after 2 s; Redis is not killed without --force"
    assert outcome.actions == (f"docker stop --time -1 {server.name}",)
    assert server.state == "running"
    os.kill(server.pid, signal.SIGCONT)
    wait_until(lambda: server.state == "exited", "it ends by itself")
    assert "bye bye" in _log(server)
