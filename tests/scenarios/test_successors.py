"""Servers that move on: a port that was freed is free, and it is said where its server went."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.cli import reported, ultra
from tests.lab.npm import install
from tests.lab.ports import free_port, is_free
from tests.lab.processes import alive, stays_free, until_served

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.cli import Run
    from tests.lab.processes import Lab

pytestmark = pytest.mark.slow

SERVER = f"{sys.executable} -m http.server --bind 127.0.0.1"
# What many servers do by themselves: the next port, where the one before it was in use
NEXT = """\
import http.server, pathlib
known = pathlib.Path('port')
port = int(known.read_text())
known.write_text(str(port + 1))
http.server.HTTPServer(('127.0.0.1', port), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def moved(run: Run, port: int) -> dict[str, Any]:
    """Asserts that the port was freed, and stays so, with one successor; the successor."""
    report = reported(run, port, 0, "freed")
    [found] = report["successors"]
    assert found["text"] in report["notes"]
    assert stays_free(port)
    result: dict[str, Any] = found
    return result


def script(lab: Lab, folder: Path, text: str) -> int:
    """A loop in a script, whose text is not read; its PID."""
    path = folder / "serve.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return lab.command(str(path), cwd=folder).pid


def test_a_server_that_chooses_the_next_port_itself(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "next.py").write_text(NEXT)
    (tmp_path / "port").write_text(str(port))
    loop = script(lab, tmp_path, f"while true; do {sys.executable} next.py; done")
    until_served(port)

    found = moved(ultra("resolve", str(port), "--json", "--settle", "2"), port)

    assert found["binding"]["port"] == port + 1
    assert found["started_by"]["pid"] == loop
    assert alive(found["process"]["pid"])
    assert f"it came back on {port + 1}/tcp as" in found["text"]
    assert not is_free(port + 1)


def test_a_loop_that_counts_up(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    loop = script(lab, tmp_path, f"p={port}; while true; do {SERVER} $p; p=$((p+1)); done")
    until_served(port)

    found = moved(ultra("resolve", str(port), "--json"), port)

    assert (found["binding"]["port"], found["started_by"]["pid"]) == (port + 1, loop)
    assert f"it seems to have come back on {port + 1}/tcp" in found["text"]


def test_vite_below_npm_and_a_loop(lab: Lab, tmp_path: Path) -> None:
    vite = install("vite@5")  # later ones want a newer node than Debian 12 has
    port = free_port()
    (tmp_path / "index.html").write_text("<p>", encoding="utf-8")
    (tmp_path / "package.json").write_text(f'{{"scripts": {{"dev": "{vite} --host 127.0.0.1"}}}}')
    text = f"p={port}; while true; do npm run dev -- --port $p; p=$((p+1)); done"
    loop = script(lab, tmp_path, text)
    until_served(port)

    found = moved(ultra("resolve", str(port), "--json", "--settle", "3"), port)

    assert (found["binding"]["port"], found["started_by"]["pid"]) == (port + 1, loop)
    assert "node" in found["process"]["name"]


def test_one_that_is_slow_to_start_is_waited_for(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "port").write_text(str(port))
    (tmp_path / "next.py").write_text(f"import time\ntime.sleep(1.5)\n{NEXT}")
    script(lab, tmp_path, f"while true; do {sys.executable} next.py; done")
    until_served(port)

    found = moved(ultra("resolve", str(port), "--json", "--settle", "1"), port)

    assert found["binding"]["port"] == port + 1


def test_one_that_serves_nothing_yet_is_said_to_be_there(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "port").write_text(str(port))
    (tmp_path / "next.py").write_text(
        f"import pathlib, time\nif pathlib.Path('again').exists():\n    time.sleep(600)\n"
        f"pathlib.Path('again').touch()\n{NEXT}"
    )
    script(lab, tmp_path, f"while true; do {sys.executable} next.py; done")
    until_served(port)

    found = moved(ultra("resolve", str(port), "--json", "--settle", "0.3"), port)

    assert found["binding"] is None
    assert "serves no port so far" in found["text"]


def test_what_was_there_before_or_is_no_kin_is_no_successor(lab: Lab, tmp_path: Path) -> None:
    """Another server of the same folder, and one that somebody else starts in the same moment."""
    port, other, third = free_port(), free_port(), free_port()
    server = lab.command(*SERVER.split(), str(port), cwd=tmp_path)
    lab.command(*SERVER.split(), str(other), cwd=tmp_path)
    until_served(port)
    until_served(other)
    watcher = f"while [ -e /proc/{server.pid}/exe ]; do sleep 0.05; done"
    code = f"import socket; input(socket.create_server(('127.0.0.1', {third})).accept())"
    lab.command("sh", "-c", f'{watcher}; {sys.executable} -c "{code}"; true', cwd=tmp_path)

    run = ultra("resolve", str(port), "--json")

    report = run.port(f"{port}/tcp")
    assert (run.status, report["verdict"], report["successors"]) == (0, "freed", [])
    assert not is_free(third)
