"""Engines that are absent, down, wedged, not permitted or mad: local holders are still handled."""

from __future__ import annotations

import os
import shutil
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import Run, ultra
from tests.lab.engine import broken_socket, counting_socket, dead_socket, forwarders
from tests.lab.ports import free_port
from tests.lab.processes import stays, stays_free, unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.engine import Engine
    from tests.lab.processes import Lab, Server

ABSENT = "unix:///nonexistent.sock"
FAST = ("--settle", "0.3", "--grace", "1")
SANE_SECONDS = 10.0  # rival tools took over 30
GARBAGE = (
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n[{\x00\xff!!",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\n<html",
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"a text" ',
    b"",
)
# Without this, coverage would want to write into the project as nobody.
UNMEASURED = ("env", "-u", "COVERAGE_PROCESS_CONFIG")


def resolve(port: int, path: Path, *arguments: str, prefix: tuple[str, ...] = ()) -> Run:
    """Resolves with the engine at a socket's path."""
    env = {"DOCKER_HOST": f"unix://{path}"}
    return ultra("resolve", *FAST, *arguments, str(port), env=env, prefix=prefix)


def assert_freed(run: Run, port: int, server: Server) -> None:
    """Asserts that the local server was ended all the same."""
    assert run.status == 0, run.stdout + run.stderr
    assert run.port(f"{port}/tcp")["verdict"] == "freed"
    assert not server.alive
    assert stays_free(port)


def said(run: Run) -> str:
    """Everything that a reader is told, in small letters."""
    return (run.stdout + run.stderr).lower()


@pytest.fixture
def wedged() -> Iterator[Path]:
    """The socket of an engine that accepts and never answers."""
    with broken_socket(None) as path:
        yield path


def test_absent_is_no_trouble(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port)
    run = ultra("resolve", *FAST, "--json", str(port), env={"DOCKER_HOST": ABSENT})
    assert_freed(run, port, server)
    assert "nonexistent" not in run.stderr


@pytest.mark.parametrize("command", ["resolve", "who"])
def test_absent_is_said_at_v_only(lab: Lab, command: str) -> None:
    port = free_port()
    lab.start("answering", port)
    options = ("--dry-run",) if command == "resolve" else ()
    quiet = ultra(command, *options, str(port), env={"DOCKER_HOST": ABSENT})
    verbose = ultra(command, "-v", *options, str(port), env={"DOCKER_HOST": ABSENT})
    assert "nonexistent.sock" not in quiet.stdout + quiet.stderr
    assert (verbose.stdout + verbose.stderr).count("nonexistent.sock") == 1
    assert verbose.status == quiet.status


def test_down_is_said_and_local_holders_are_handled(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port)
    with dead_socket() as path:
        run = resolve(port, path, "--json")
    assert_freed(run, port, server)
    assert str(path) in said(run)


def test_wedged_is_said_in_time_and_local_holders_are_handled(lab: Lab, wedged: Path) -> None:
    port = free_port()
    server = lab.start("answering", port)
    began = time.monotonic()
    run = resolve(port, wedged, "--json", "--docker-timeout", "0.5")
    assert time.monotonic() - began < SANE_SECONDS
    assert_freed(run, port, server)
    assert str(wedged) in said(run)


def test_a_wedged_engine_is_waited_for_once(tmp_path: Path) -> None:
    asked: list[str] = []
    with counting_socket(tmp_path, asked) as path:
        run = resolve(free_port(), path, "--json", "--docker-timeout", "0.5")
    assert run.status == 0, run.stdout + run.stderr
    assert len(asked) == 1, asked


def test_wedged_by_default_takes_its_two_seconds(wedged: Path) -> None:
    port = free_port()
    began = time.monotonic()
    run = resolve(port, wedged, "--json")
    assert time.monotonic() - began < SANE_SECONDS
    assert run.status == 0, run.stdout + run.stderr
    assert run.port(f"{port}/tcp")["verdict"] == "free"


def without(engine: Engine) -> tuple[str, ...]:
    """A command that runs another where this engine's socket is none; needs root.

    Engines are found by their sockets, so one in trouble has to be the only one.
    """
    if os.geteuid() != 0:
        unavailable("hiding a socket needs root")
    unshare = shutil.which("unshare") or unavailable("unshare is missing")
    hide = 'mount --bind /dev/null "$0" && exec "$@"'
    return (unshare, "--mount", "sh", "-c", hide, str(engine.socket))


@pytest.mark.engine
def test_a_forwarder_behind_a_wedged_engine_is_undecided(engine: Engine, wedged: Path) -> None:
    port = free_port()
    web = engine.publish(f"{port}:80")
    web.wait_for(port)
    proxies = forwarders(port)

    run = resolve(port, wedged, "--json", "--docker-timeout", "0.5", prefix=without(engine))

    assert run.status == 5, run.stdout + run.stderr
    assert run.port(f"{port}/tcp")["verdict"] == "undecided"
    assert stays(lambda: web.serves(port))
    assert forwarders(port) == proxies


@pytest.mark.engine
@pytest.mark.parametrize("command", ["who", "resolve"])
def test_a_forwarder_behind_a_dead_engine_is_undecided(engine: Engine, command: str) -> None:
    port = free_port()
    web = engine.publish(f"{port}:80")
    web.wait_for(port)
    with dead_socket() as path:
        env = {"DOCKER_HOST": f"unix://{path}"}
        run = ultra(command, "--json", str(port), env=env, prefix=without(engine))
    assert run.status == 5, run.stdout + run.stderr
    assert run.port(f"{port}/tcp")["verdict"] in {"undecided", "held"}
    assert web.serves(port)


@pytest.mark.engine
def test_another_engine_on_this_machine_explains_what_a_dead_one_cannot(engine: Engine) -> None:
    port = free_port()
    web = engine.publish(f"{port}:80", options=["--stop-timeout=1"])
    web.wait_for(port)
    with dead_socket() as path:
        run = resolve(port, path, "--json")
    assert run.status == 0, run.stdout + run.stderr
    (stop,) = {
        command
        for holder in run.port(f"{port}/tcp")["holders"]
        for command in holder["step"]["command_lines"]
    }
    assert stop.startswith("docker -H unix://")  # `docker` alone would talk to the dead one
    assert str(path) in said(run)
    assert web.state == "exited"


@pytest.mark.root
def test_a_hidden_owner_behind_a_wedged_engine(
    lab: Lab, wedged: Path, as_nobody: tuple[str, ...]
) -> None:
    port = free_port()
    server = lab.start("answering", port)
    prefix = (*UNMEASURED, *as_nobody)

    run = resolve(port, wedged, "--json", "--docker-timeout", "0.5", prefix=prefix)

    assert run.status == 5, run.stdout + run.stderr
    assert run.port(f"{port}/tcp")["verdict"] == "undecided"
    assert server.alive
    assert server.signals() == []


@pytest.mark.root
def test_not_permitted_is_said_and_local_holders_are_handled(
    lab: Lab, wedged: Path, as_nobody: tuple[str, ...]
) -> None:
    wedged.chmod(0o600)
    port = free_port()
    server = lab.start("answering", port, prefix=as_nobody, log=False)

    run = resolve(port, wedged, "--json", prefix=(*UNMEASURED, *as_nobody))

    assert_freed(run, port, server)
    assert "this user may not talk to the engine" in said(run)
    assert str(wedged) in said(run)


@pytest.mark.parametrize("answer", GARBAGE)
def test_garbage_is_said_and_local_holders_are_handled(lab: Lab, answer: bytes) -> None:
    port = free_port()
    server = lab.start("answering", port)
    with broken_socket(answer) as path:
        run = resolve(port, path, "--json")
    assert_freed(run, port, server)
    assert str(path) in said(run)
    assert "\x00" not in run.stderr


def test_trouble_is_labelled_in_the_text(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port)
    with broken_socket(GARBAGE[0]) as path:
        run = resolve(port, path)
    assert run.status == 0, run.stdout + run.stderr
    assert str(path) in run.stderr
    assert not server.alive


class _Nonsense(BaseHTTPRequestHandler):
    """An engine that knows its version, and lists what no engine lists."""

    containers = "[null]"

    def do_GET(self) -> None:
        body = ("OK" if self.path.endswith("/_ping") else self.containers).encode()
        self.send_response(200)
        self.send_header("Api-Version", "1.41")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "a unix socket"

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.mark.parametrize(
    "containers",
    [
        "[null]",
        '[{"Names": ["/x"]}]',
        '[{"Id": "a", "Ports": [{"IP": "invalid IP", "PublicPort": 1, "Type": "tcp"}]}]',
    ],
)
def test_nonsense_in_good_form_is_trouble_and_not_absence(
    lab: Lab, tmp_path: Path, containers: str
) -> None:
    port = free_port()
    server = lab.start("answering", port)
    path = tmp_path / "docker.sock"
    handler = type("_Lister", (_Nonsense,), {"containers": containers})
    with socketserver.ThreadingUnixStreamServer(str(path), handler) as engine:
        threading.Thread(target=engine.serve_forever, daemon=True).start()
        run = resolve(port, path, "--json", "--docker-timeout", "60")
        engine.shutdown()
    assert_freed(run, port, server)
    assert "answers with what no engine says" in said(run)
