"""Parents that start their server again: named, and ended with it where that harms nobody."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.lab.cli import reported, ultra
from tests.lab.npm import install
from tests.lab.ports import free_port
from tests.lab.processes import alive, answered_by, unavailable, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.cli import Run
    from tests.lab.processes import Lab

pytestmark = pytest.mark.slow

FAST = ("--json", "--grace", "1", "--settle", "1")
WSGI = "def app(environ, start):\n    start('200 OK', [])\n    return [b'hello']\n"


def serving(port: int) -> str:
    """A command line for a shell: a plain server that answers with its PID."""
    return f"{sys.executable} -S -m tests.lab.servers.answering {port}"


def accepts(port: int) -> bool:
    """Whether anybody listens on the port."""
    with contextlib.suppress(psutil.Error):
        return any(
            row.laddr[1] == port
            for row in psutil.net_connections("tcp")
            if row.status == psutil.CONN_LISTEN and row.laddr
        )
    return False


def chains(run: Run, port: int) -> str:
    report = run.port(f"{port}/tcp")
    found = [*report["holders"], *report["retaken_by"]]
    return " | ".join(" → ".join(holder["chain"]) for holder in found)


def freed_with(run: Run, lab: Lab, port: int, parent: int) -> Any:  # noqa: ANN401
    """Asserts that the port was freed for good, and that the parent was ended by name."""
    report = reported(run, port, 0, "freed")
    assert not alive(parent)
    assert lab.frees(port)
    return report


def test_a_loop_in_a_script_is_found_by_observation(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    script = tmp_path / "serve.sh"
    script.write_text(f"#!/bin/sh\nwhile true; do {serving(port)}; done\n")
    script.chmod(0o755)
    loop = lab.command(str(script))
    wait_until(lambda: answered_by(port), "the loop's server answers")

    run = ultra("resolve", str(port), *FAST)

    report = freed_with(run, lab, port, loop.pid)
    assert len(report["holders"]) == 2
    assert f"serve.sh {loop.pid}" in chains(run, port)
    assert any("observed" in fact for fact in report["holders"][-1]["evidence"])
    assert str(script) in report["holders"][-1]["step"]["undo_lines"][0]


def test_a_loop_on_a_command_line_is_found_before_the_act(lab: Lab) -> None:
    port = free_port()
    loop = lab.command("sh", "-c", f"while true; do {serving(port)}; done")
    wait_until(lambda: answered_by(port), "the loop's server answers")

    run = ultra("resolve", str(port), *FAST)

    report = freed_with(run, lab, port, loop.pid)
    assert len(report["holders"]) == 1
    assert f"sh {loop.pid}" in chains(run, port)


def test_a_parent_that_restarts_its_server_at_once(lab: Lab) -> None:
    port = free_port()
    parent = lab.start("restarting", port)

    run = ultra("resolve", str(port), *FAST)

    report = freed_with(run, lab, port, parent.pid)
    assert report["holders"][0]["processes"][0]["pid"] == parent.facts["child"]
    assert parent.signals() == ["SIGTERM"]
    assert any(f" {parent.pid}" in note for note in report["notes"])


def test_a_parent_with_another_child_is_left_alone(lab: Lab) -> None:
    port, other = free_port(), free_port()
    script = f"{serving(other)} &\nwhile true; do {serving(port)}; done\n"
    parent = lab.command("bash", "-c", script)
    wait_until(lambda: answered_by(port) and answered_by(other), "both answer")
    sibling = answered_by(other)

    run = ultra("resolve", str(port), *FAST)

    report = reported(run, port, 3, "advised")
    assert "other children" in report["reason"]
    assert str(sibling) in report["reason"]
    assert f"kill {parent.pid}" in report["holders"][0]["step"]["command_lines"][0]
    assert alive(parent.pid)
    assert answered_by(other) == sibling
    assert answered_by(port)


@contextlib.contextmanager
def typed(lab: Lab, line: str) -> Iterator[subprocess.Popen[bytes]]:
    """An interactive shell on a terminal of its own, with a line typed into it."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "PS1": "$ ", **lab.marked()}
    shell = subprocess.Popen(
        ["/bin/bash", "--norc", "-i"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=env,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        os.write(ours, line.encode() + b"\n")
        yield shell
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)


def test_a_loop_typed_into_a_shell_is_the_users(lab: Lab) -> None:
    port = free_port()
    with typed(lab, f"while true; do {serving(port)}; done") as shell:
        wait_until(lambda: answered_by(port), "the loop's server answers")

        run = ultra("resolve", str(port), *FAST)

        report = run.port(f"{port}/tcp")
        assert (run.status, report["verdict"]) == (1, "retaken"), run.stdout + run.stderr
        assert f"bash {shell.pid}" in report["reason"]
        assert f"kill -HUP {shell.pid}" in report["retaken_by"][0]["step"]["command_lines"][0]
        assert shell.poll() is None
        wait_until(lambda: answered_by(port), "the shell's loop goes on")
        lab.reap()


def test_django(lab: Lab, tmp_path: Path) -> None:
    pytest.importorskip("django")
    port = free_port()
    site = tmp_path / "manage.py"
    site.write_text(
        "import sys\n"
        "from django.conf import settings\n"
        "if not settings.configured:\n"
        "    settings.configure(DEBUG=True, ROOT_URLCONF='manage', SECRET_KEY='x')\n"
        "urlpatterns = []\n"
        "if __name__ == '__main__':\n"
        "    from django.core.management import execute_from_command_line\n"
        "    execute_from_command_line(sys.argv)\n"
    )
    parent = lab.command(
        sys.executable, "manage.py", "runserver", f"127.0.0.1:{port}", cwd=tmp_path
    )
    wait_until(lambda: accepts(port), "runserver listens")

    run = ultra("resolve", str(port), *FAST)

    assert len(freed_with(run, lab, port, parent.pid)["holders"]) == 1


@pytest.mark.parametrize("framework", ["flask", "uvicorn"])
def test_a_reloader_that_keeps_the_socket_itself(lab: Lab, tmp_path: Path, framework: str) -> None:
    port = free_port()
    (tmp_path / "web.py").write_text(
        "from flask import Flask\napp = Flask(__name__)\n" if framework == "flask" else WSGI
    )
    words = {
        "flask": ["flask", "--app", "web", "run", "--debug", "--port", str(port)],
        "uvicorn": ["uvicorn", "--reload", "--interface", "wsgi", "--port", str(port), "web:app"],
    }[framework]
    parent = lab.command(sys.executable, "-m", *words, cwd=tmp_path)
    wait_until(lambda: accepts(port), f"{framework} listens")

    run = ultra("resolve", str(port), *FAST)

    freed_with(run, lab, port, parent.pid)


def test_watchmedo(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    watched = tmp_path / "watched"
    watched.mkdir()
    words = ["-m", "watchdog.watchmedo", "auto-restart", "--directory", str(watched)]
    parent = lab.command(sys.executable, *words, "--", *serving(port).split(), cwd=tmp_path)
    wait_until(lambda: answered_by(port), "watchmedo's server answers")

    run = ultra("resolve", str(port), *FAST)

    freed_with(run, lab, port, parent.pid)


def test_what_was_ended_with_its_server_is_told_as_past(lab: Lab) -> None:
    port = free_port()
    loop = lab.command("sh", "-c", f"while true; do {serving(port)}; done")
    wait_until(lambda: answered_by(port), "the loop's server answers")

    run = ultra("resolve", str(port), "--grace", "1")

    assert run.status == 0, run.stdout + run.stderr
    assert f"sh {loop.pid} would have started it again; it was ended, too" in run.stdout
    assert "is ended with it" not in run.stdout


@pytest.mark.parametrize("start", ["its link", "its file", "npm below it"])
def test_nodemon(lab: Lab, tmp_path: Path, start: str) -> None:
    """Its file is what the shims of pnpm and yarn start."""
    if shutil.which("node") is None:
        unavailable("node is missing")
    port = free_port()
    app = tmp_path / "app.js"
    app.write_text(f"require('net').createServer(s => s.end()).listen({port}, '127.0.0.1')\n")
    nodemon = install("nodemon")
    (tmp_path / "package.json").write_text('{"scripts": {"start": "node app.js"}}')
    words = {
        "its link": (str(nodemon), str(app)),
        "its file": ("node", str(nodemon.resolve()), str(app)),
        "npm below it": (str(nodemon), "--exec", "npm start"),
    }
    parent = lab.command(*words[start], cwd=tmp_path)
    wait_until(lambda: accepts(port), "nodemon's server listens")

    run = ultra("resolve", str(port), *FAST)

    report = freed_with(run, lab, port, parent.pid)
    assert len(report["holders"]) == 1


def test_an_emperor_of_uwsgi(lab: Lab, tmp_path: Path) -> None:
    """It is ended with its only vassal; of several, its own way ends just one."""
    uwsgi = shutil.which("uwsgi") or unavailable("uwsgi is missing")
    one, two = free_port(), free_port()
    for port in (one, two):
        served = f"http-socket = 127.0.0.1:{port}\nmaster = true\n"
        (tmp_path / f"{port}.ini").write_text(f"[uwsgi]\n{served}")
    emperor = lab.command(uwsgi, "--emperor-freq", "1", "--emperor", str(tmp_path))
    wait_until(lambda: accepts(one) and accepts(two), "both vassals listen")

    run = ultra("resolve", str(one), *FAST)

    report = reported(run, one, 3, "advised")
    (command,) = report["holders"][0]["step"]["commands"]
    assert command == ["mv", f"{tmp_path}/{one}.ini", f"{tmp_path}/{one}.ini.off"]
    subprocess.run(command, check=True)
    wait_until(lambda: not accepts(one), "its emperor ends it", 20)
    report = freed_with(ultra("resolve", str(two), "--json"), lab, two, emperor.pid)
    assert "SIGKILL" not in str(report["holders"][0]["outcome"]["actions"])


@pytest.mark.root
def test_a_strangers_emperor_names_no_file_to_move(
    lab: Lab, tmp_path: Path, as_nobody: tuple[str, ...]
) -> None:
    """It chooses the directory, and a title of its vassals: `mv` would be typed by root."""
    uwsgi = shutil.which("uwsgi") or unavailable("uwsgi is missing")
    ports = free_port(), free_port()
    for port in ports:
        served = f"http-socket = 127.0.0.1:{port}\nmaster = true\n"
        (tmp_path / f"{port}.ini").write_text(f"[uwsgi]\n{served}")
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    lab.command(*as_nobody, uwsgi, "--emperor-freq", "1", "--emperor", str(tmp_path))
    wait_until(lambda: all(map(accepts, ports)), "both vassals listen")

    run = ultra("resolve", str(ports[0]), *FAST)

    report = reported(run, ports[0], 3, "advised")
    assert report["holders"][0]["step"]["kind"] == "advise"
    assert "mv " not in run.stdout
    assert all(map(accepts, ports))


def test_a_stack_of_uwsgi_is_ended_and_not_reloaded(lab: Lab) -> None:
    uwsgi = shutil.which("uwsgi") or unavailable("uwsgi is missing")
    port = free_port()
    stack = lab.command(uwsgi, "--http-socket", f"127.0.0.1:{port}", "--master", "-p", "2")
    wait_until(lambda: accepts(port), "uwsgi listens")

    report = freed_with(ultra("resolve", str(port), "--json"), lab, port, stack.pid)

    actions = report["holders"][0]["outcome"]["actions"]
    assert [each.partition(" to ")[0] for each in actions] == ["SIGINT"]


def test_node_watch(lab: Lab, tmp_path: Path) -> None:
    if shutil.which("node") is None:
        unavailable("node is missing")
    port = free_port()
    app = tmp_path / "app.js"
    app.write_text(f"require('net').createServer(s => s.end()).listen({port}, '127.0.0.1')\n")
    parent = lab.command("node", "--watch", str(app), cwd=tmp_path)
    wait_until(lambda: accepts(port), "node's server listens")

    run = ultra("resolve", str(port), *FAST)

    freed_with(run, lab, port, parent.pid)
