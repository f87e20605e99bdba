"""Where the command's streams lead, be it nowhere; Ctrl-C; and what an answer may load."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import COMMAND, ultra
from tests.lab.ports import free_port
from tests.lab.processes import answered_by, running, wait_until

if TYPE_CHECKING:
    from tests.lab.processes import Lab

QUICK = ("--grace", "1", "--settle", "0.3")


def test_a_reader_that_has_gone(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port)
    told, telling = os.pipe()
    os.close(told)
    try:
        done = subprocess.run(
            [COMMAND, "resolve", str(port), *QUICK],
            stdin=subprocess.DEVNULL,
            stdout=telling,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )
    finally:
        os.close(telling)

    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert not server.alive
    assert lab.frees(port)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"], ids=["stdin", "stdout", "stderr"])
def test_a_closed_standard_stream(lab: Lab, closed: str) -> None:
    port = free_port()
    server = lab.start("answering", port)
    shell = ("/bin/sh", "-c", f'exec "$@" {closed}', "sh")

    asked = ultra("resolve", str(port), "-i", *QUICK, prefix=shell)
    assert asked.status == 1
    assert "internal error" not in asked.stderr
    assert ("skipped: nobody answered" in asked.stdout) == (closed != ">&-")
    assert answered_by(port) == server.pid

    run = ultra("resolve", str(port), *QUICK, prefix=shell)
    assert run.status == 0
    assert "internal error" not in run.stderr
    assert lab.frees(port)


def test_a_long_grace_shows_its_progress_on_a_terminal(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port, "--ignore")
    ours, theirs = os.openpty()
    with running("resolve", str(port), "--grace", "2", "--settle", "0.3", stderr=theirs) as popen:
        os.close(theirs)
        shown = os.read(ours, 4096).decode()  # before the grace is over: nothing else is said
        popen.communicate(timeout=20)
    os.close(ours)

    assert popen.returncode == 0
    assert str(server.pid) in shown
    assert "\r" in shown
    assert lab.frees(port)


def test_ctrl_c_says_which_signal_was_sent(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port, "--ignore")
    with running("resolve", str(port), "--grace", "30", "--no-docker") as popen:
        wait_until(lambda: "SIGTERM" in server.signals(), "SIGTERM was sent")
        popen.send_signal(signal.SIGINT)
        _, stderr = popen.communicate(timeout=20)

    assert popen.returncode == 130
    sent = f"interrupted: SIGTERM to python {server.pid}: sent, and it may still end."
    assert f"{sent} To have it back then: " in stderr
    assert server.alive


@pytest.mark.parametrize(
    "words",
    [("who", "--complete"), ("who", "-v", "--complete"), ("resolve", "--dry-run"), ("preflight",)],
    ids=" ".join,
)
def test_ctrl_c_while_an_engine_is_asked(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "silent.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    monkeypatch.chdir(tmp_path)
    port = free_port()
    Path("compose.yml").write_text(f'services: {{a: {{image: a, ports: ["{port}:80"]}}}}')
    ports = () if words[0] == "preflight" else (str(port),)
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(path))
        engine.listen()
        engine.settimeout(20)
        with running(*words, *ports, "--docker-timeout", "60") as popen:
            asked, _ = engine.accept()
            with asked:
                popen.send_signal(signal.SIGINT)
                stdout, stderr = popen.communicate(timeout=10)

    assert (popen.returncode, stdout) == (130, "")
    assert stderr.startswith("ultra-ports: interrupted")
    assert len(stderr.splitlines()) == 1


def test_ctrl_c_while_the_command_is_loaded() -> None:
    script = """
import builtins, signal
loads = builtins.__import__
def interrupted(name, *rest):
    if name == "resolver.errors":
        signal.raise_signal(signal.SIGINT)
    return loads(name, *rest)
from resolver.__main__ import main
builtins.__import__ = interrupted
main()
"""
    argv = [sys.executable, "-c", script, "who"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "ultra-ports: interrupted\n"


def test_a_free_port_loads_nothing_heavy() -> None:
    run = ultra(
        "resolve", str(free_port()), "--no-docker", prefix=[sys.executable, "-X", "importtime"]
    )

    assert run.status == 0
    loaded = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines()}
    assert "resolver.portspec" in loaded, "the list of imports is not what it seems"
    assert not loaded & {"docker", "requests", "pydantic"}


def test_the_overview_loads_no_command() -> None:
    run = ultra("-h", prefix=[sys.executable, "-X", "importtime"])

    loaded = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines()}
    assert "resolver.cli.app" in loaded, "the list of imports is not what it seems"
    assert not loaded & {"resolver.cli.who", "resolver.pipeline", "resolver.gather"}
