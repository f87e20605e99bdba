"""Ports that tunnels hold, at either end: real ssh, sshd and autossh, and a real kubectl.

kubectl asks an API server of the lab's own, which says that a pod runs and forwards nothing.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.cli import Run, holders, ultra
from tests.lab.ports import free_port, is_served
from tests.lab.processes import (
    MARK,
    ROOT,
    alive,
    answered_by,
    stays,
    stays_free,
    unavailable,
    wait_until,
)
from tests.lab.ssh import Sshd, sshd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.processes import Lab

pytestmark = pytest.mark.slow

FAST = ("--settle", "1", "--grace", "2", "--no-docker", "--json")


def resolve(port: int, *arguments: str) -> Run:
    return ultra("resolve", str(port), *FAST, *arguments)


def freed(run: Run, port: int) -> dict[str, Any]:
    """Asserts that the port was freed, and stays so; returns its first holder."""
    assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (0, "freed"), run.stdout + run.stderr
    assert stays_free(port)
    return holders(run, port)[0]


@pytest.fixture
def daemon(lab: Lab) -> Iterator[Sshd]:
    """A private sshd."""
    with sshd(lab) as found:
        yield found


def client(lab: Lab, daemon: Sshd, *more: str) -> subprocess.Popen[bytes]:
    return lab.command("ssh", *daemon.options(*more), daemon.host)


def session(lab: Lab) -> str:
    """What runs at the other end: sshd leaves it behind, so it bears the lab's mark."""
    return f"env {MARK}={lab.marked()[MARK]} sleep 1000"


def test_a_tunnel_is_named_with_its_destination_and_ended(lab: Lab, daemon: Sshd) -> None:
    port, target = free_port(), free_port()
    server = lab.start("answering", target)
    tunnel = client(lab, daemon, "-N", "-L", f"{port}:127.0.0.1:{target}")
    wait_until(lambda: answered_by(port) == server.pid, "the server answers through the tunnel")

    run = resolve(port)

    found = freed(run, port)
    assert found["kind"] == "local"
    assert found["chain"][-1] == f"tunnel to 127.0.0.1:{target} through {daemon.host}"
    assert not any("session" in fact for fact in found["evidence"])
    assert tunnel.poll() is not None
    assert server.alive
    assert daemon.alive
    (undo,) = found["step"]["undo_lines"]
    assert undo.endswith(shlex.join(["ssh", *daemon.options(), "-N", "-L"]) + " " + "".join(
        [f"{port}:127.0.0.1:{target} ", daemon.host]))  # fmt: skip
    lab.command("sh", "-c", undo)
    wait_until(lambda: answered_by(port) == server.pid, "the undo line brings the tunnel back")


def test_a_socks_proxy_with_a_session_says_what_else_ends(lab: Lab, daemon: Sshd) -> None:
    port = free_port()
    lab.command("ssh", *daemon.options(f"-D{port}"), daemon.host, session(lab))
    wait_until(lambda: is_served(port), "ssh listens")

    found = freed(resolve(port), port)

    assert found["chain"][-1] == f"SOCKS proxy (-D) through {daemon.host}"
    assert f"it is also a session on {daemon.host}, which ends with it" in found["evidence"]
    assert daemon.alive


def test_a_remote_forward_is_explained_and_left_alone(lab: Lab, daemon: Sshd) -> None:
    port, target = free_port(), free_port()
    server = lab.start("answering", target)
    tunnel = client(lab, daemon, "-N", "-R", f"{port}:127.0.0.1:{target}")
    wait_until(lambda: answered_by(port) == server.pid, "the server answers through the tunnel")

    run = resolve(port, "--stop-services")

    assert run.status == 3, run.stdout + run.stderr
    assert run.port(f"{port}/tcp")["verdict"] == "refused"
    for found in holders(run, port):
        assert found["kind"] == "protected"
        assert "remote forward (ssh -R)" in found["step"]["why"]
        assert "cuts off that session" in found["step"]["why"]
    assert stays(lambda: answered_by(port) == server.pid, 1)
    assert tunnel.poll() is None


def test_the_daemon_itself_is_no_forward(daemon: Sshd) -> None:
    run = resolve(daemon.port)
    assert run.status == 3, run.stdout + run.stderr
    (found,) = holders(run, daemon.port)
    assert found["kind"] == "protected"
    assert "ssh -R" not in found["step"]["why"]
    assert daemon.alive


def test_autossh_is_ended_with_its_ssh(lab: Lab, daemon: Sshd) -> None:
    port, target = free_port(), free_port()
    server = lab.start("answering", target)
    if shutil.which("autossh") is None:
        unavailable("autossh is missing")
    forward = f"{port}:127.0.0.1:{target}"
    words = ("-M", "0", *daemon.options("-N", "-L", forward), daemon.host)
    respawner = lab.command("autossh", *words, env={"AUTOSSH_GATETIME": "0"})
    wait_until(lambda: answered_by(port) == server.pid, "the server answers through the tunnel")

    run = resolve(port)

    found = freed(run, port)
    assert found["chain"][0] == f"autossh {respawner.pid}"
    assert f"SIGTERM to autossh {respawner.pid}" in found["outcome"]["actions"]
    assert "autossh -M 0" in found["step"]["undo_lines"][0]
    assert respawner.poll() is not None
    assert server.alive


def test_a_shared_connection_is_left_to_ssh_itself(lab: Lab, daemon: Sshd) -> None:
    port, target = free_port(), free_port()
    server = lab.start("answering", target)
    control = daemon.home / "control"
    share = ("-o", "ControlMaster=auto", "-o", f"ControlPath={control}", "-o", "ControlPersist=60")
    forward = ("-L", f"{port}:127.0.0.1:{target}")
    words = ("ssh", *daemon.options(*share, *forward), daemon.host, "true")
    lab.command(*words).wait()
    wait_until(lambda: answered_by(port) == server.pid, "the master stays, and forwards")
    other = lab.command("ssh", *daemon.options(*share), daemon.host, session(lab))

    run = resolve(port)

    assert run.status == 3, run.stdout + run.stderr
    for found in holders(run, port):
        assert found["manager"]["name"] == str(control)
        assert found["step"]["command_lines"] == [f"ssh -S {control} -O exit localhost"]
        assert "every session that shares the connection ends with it" in found["step"]["why"]
    assert stays(lambda: answered_by(port) == server.pid and other.poll() is None, 1)

    freed(resolve(port, "--stop-services"), port)
    assert server.alive


def test_a_port_forward_of_kubectl_is_named_and_ended(lab: Lab, tmp_path: Path) -> None:
    port, api = free_port(), free_port()
    kubectl = shutil.which("kubectl") or unavailable("kubectl is missing")
    server = lab.start("kubernetes", api)
    where = ("--server", f"http://127.0.0.1:{api}", "-n", "shop")
    settings = {"KUBECONFIG": "/dev/null", "HOME": str(tmp_path)}
    forward = lab.command(kubectl, *where, "port-forward", "pod/web", f"{port}:80", env=settings)
    wait_until(lambda: is_served(port), "kubectl listens")

    run = resolve(port)

    found = freed(run, port)
    assert found["kind"] == "local"
    wanted = f"{found['processes'][0]['name']} port-forward to pod/web port 80 in namespace shop"
    assert found["chain"][-1] == wanted
    assert f"port-forward pod/web {port}:80" in found["step"]["undo_lines"][0]
    assert not alive(forward.pid)
    assert server.alive


RELAY = """
import socket, sys, threading

def copy(source, sink):
    while data := source.recv(65536):
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)

front = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    client, _ = front.accept()
    server = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
    for pair in ((client, server), (server, client)):
        threading.Thread(target=copy, args=pair, daemon=True).start()
"""


def test_what_passes_on_the_session_of_the_command_is_refused(lab: Lab, daemon: Sshd) -> None:
    """As a tunnel's daemon does: with it the command would end, and nobody would be told."""
    port = free_port()
    relay = lab.command(sys.executable, "-c", RELAY, str(port), str(daemon.port))
    wait_until(lambda: is_served(port), "the relay listens")
    resolving = f"resolve {shlex.join(FAST)} --force --accept-loss {port}"
    command = f"cd {ROOT} && {sys.executable} -m resolver {resolving}"
    words = ("ssh", *replace_port(daemon, port), daemon.host, command)

    done = subprocess.run(words, capture_output=True, text=True, check=False)

    run = Run(done.returncode, done.stdout, done.stderr)
    assert run.status == 3, run.stdout + run.stderr
    assert run.port(f"{port}/tcp")["verdict"] == "refused"
    assert "the ssh session that this command runs in" in run.port(f"{port}/tcp")["reason"]
    assert alive(relay.pid)
    assert resolve(port).status == 0, "from elsewhere it is ended"


def replace_port(daemon: Sshd, port: int) -> tuple[str, ...]:
    """The options of a client that comes in by another port."""
    return tuple(word.replace(f"Port={daemon.port}", f"Port={port}") for word in daemon.options())
