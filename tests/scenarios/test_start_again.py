"""How to start it again: the command as it was typed, `ultra-ports run` included."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from resolver.model import Command
from resolver.report.style import TextStyle
from tests.lab import known
from tests.lab.cli import COMMAND, ultra
from tests.lab.ports import free_port, is_served, listens
from tests.lab.processes import unavailable, wait_until
from tests.lab.screen import plain

if TYPE_CHECKING:
    from tests.lab.checkouts import Checkouts
    from tests.lab.processes import Lab
    from tests.lab.screen import Screen

QUICK = ("--no-docker", "--settle", "0.1", "--grace", "1")
SERVE = ("-m", "http.server", "{api}")


def undo(port: int, cwd: Path) -> str:
    """Frees the port, and returns the line that starts it again."""
    run = ultra("resolve", *QUICK, "--json", str(port), cwd=cwd)
    assert run.status == 0, run.stdout
    (holder,) = run.port(f"{port}/tcp")["holders"]
    (line,) = holder["step"]["undo_lines"]
    return str(line)


def test_run_is_a_part_of_it_and_it_works(checkouts: Checkouts, lab: Lab) -> None:
    port = checkouts.port
    words = ("run", "-p", f"api:{port}", "--", sys.executable, *SERVE)
    lab.command(COMMAND, *words, cwd=checkouts.other)
    wait_until(lambda: listens(port), "it listens")

    line = undo(port, checkouts.other)

    begins = f"cd {checkouts.other} && ultra-ports run -p api:{port} -- {sys.executable} -m "
    assert line == f"{begins}http.server {port}"
    path = f"PATH={Path(COMMAND).parent}:$PATH"
    lab.command("/bin/sh", "-c", f"{path}; {line}", cwd=Path("/"))
    wait_until(lambda: listens(port), "it was started again")
    assert checkouts.ownership()["leased"] == "api"


def test_a_socket_that_was_handed_over_is_again(checkouts: Checkouts, lab: Lab) -> None:
    code = "import socket, time; s = socket.socket(fileno=3); time.sleep(600)"
    words = (
        "run",
        "-p",
        f"api:{checkouts.port}",
        "--pass-socket",
        "--",
        sys.executable,
        "-c",
        code,
    )
    made = lab.command(COMMAND, *words, cwd=checkouts.other)
    wait_until(lambda: "-c" in psutil.Process(made.pid).cmdline()[1:2], "it has become the program")

    line = undo(checkouts.port, checkouts.other)

    assert f" && ultra-ports run -p api:{checkouts.port} --pass-socket -- " in line


def test_what_nobody_ran_so_is_started_as_it_was(checkouts: Checkouts) -> None:
    checkouts.serve(checkouts.other)
    assert "ultra-ports run" not in undo(checkouts.port, checkouts.other)


def test_a_reservation_of_the_port_is_not_run(checkouts: Checkouts) -> None:
    server = checkouts.serve(checkouts.other)
    kept = checkouts.ultra("reserve", "api", str(checkouts.port), "--for", str(server.pid))
    assert kept.status == 0, kept.stderr
    assert checkouts.ownership()["leased"] == "api"
    assert "ultra-ports run" not in undo(checkouts.port, checkouts.other)


def test_on_a_terminal_it_is_one_row_without_the_way_to_where_one_is(
    lab: Lab, tmp_path: Path, screen: Screen
) -> None:
    port = free_port()
    lab.command("/usr/bin/python3", "-S", *SERVE[:2], str(port), cwd=tmp_path)
    wait_until(lambda: is_served(port), "it listens")

    last = plain(screen("resolve", *QUICK, str(port), cwd=str(tmp_path)))[-1]

    assert last == f"  start it again: /usr/bin/python3 -S -m http.server {port}"


def test_the_title_of_nginx_is_no_command(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    served = f"events {{}} http {{ access_log off; server {{ listen 127.0.0.1:{port}; }} }}"
    top = f"daemon off; error_log /dev/null; pid {tmp_path}/pid;"
    (tmp_path / "nginx.conf").write_text(f"{top} {served}")
    lab.command(known.real("nginx"), "-c", str(tmp_path / "nginx.conf"))
    wait_until(lambda: listens(port), "it serves")

    last = ultra("resolve", *QUICK, str(port)).stdout.splitlines()[-1]

    assert last == "  start it again: not known, it rewrote its command line"


FORKING = """
const again = require('child_process'), title = process.argv[2];
if (title) {
  process.title = title;
  require('net').createServer().listen(PORT, '127.0.0.1');
} else {
  again.fork(__filename, ['next-server (v16)']).on('exit', () => process.exit());
}
"""


@pytest.mark.parametrize("title", [(), ("webpack",)])
def test_a_title_of_nodes_is_told_as_what_started_it(
    lab: Lab, tmp_path: Path, title: tuple[str, ...]
) -> None:
    """Next.js has such a child, whose parent says how; webpack's parent is a shell, or nobody."""
    if shutil.which("node") is None:
        unavailable("node is missing")
    port = free_port()
    (tmp_path / "app.js").write_text(FORKING.replace("PORT", str(port)))
    lab.command("node", "app.js", *title, cwd=tmp_path)
    wait_until(lambda: listens(port), "it listens")

    last = ultra("resolve", *QUICK, str(port)).stdout.splitlines()[-1]

    told = "not known, it rewrote its command line" if title else f"cd {tmp_path} && node app.js"
    assert last == f"  start it again: {told}"


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_long_command_goes_on_as_a_shell_takes_it(width: int, tmp_path: Path) -> None:
    folder = tmp_path / "a directory"
    folder.mkdir()
    code = "import json, os, sys; print(json.dumps([os.getcwd(), sys.argv[1:]]))"
    words = [f"--option-{number}=a value, {number}" for number in range(9)]
    command = Command((sys.executable, "-c", code, *words), folder=str(folder))

    told = TextStyle(width).command("start it again", command)

    rows = told.split("\n")
    assert len(rows) > 3
    whole = {len(f"    '{code}' \\"), len(f"    {sys.executable} \\"), len(f"    '{folder}' \\")}
    assert all(len(row) <= width or len(row) in whole for row in rows), told
    line = told.partition("start it again: ")[2]
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [str(folder), words]
    assert TextStyle().command("start it again", command).count("\n") == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root ends another user's server")
def test_another_users_is_started_as_that_user(lab: Lab) -> None:
    """What root pastes is no way from nobody to root."""
    port, words = free_port(), ("/usr/bin/python3", "-S", "-m", "http.server")
    drop = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--")
    lab.command(*drop, *words, str(port), cwd=Path("/"))
    wait_until(lambda: listens(port), "it listens")

    line = undo(port, Path("/"))

    assert line == f"cd / && sudo -u nobody -- {' '.join(words)} {port}"


BY_VARIABLE = """
import http.server, os, sys
assert sys.argv[1:] == ["--name", ""], sys.argv
where = ("127.0.0.1", int(os.environ["WEB_PORT"]))
http.server.HTTPServer(where, http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def test_what_gave_it_the_port_and_an_empty_last_word_are_part_of_it(
    lab: Lab, tmp_path: Path
) -> None:
    port = free_port()
    (tmp_path / "serve.py").write_text(BY_VARIABLE, encoding="utf-8")
    words = ("/usr/bin/python3", "-S", "serve.py", "--name", "")
    environment = {"WEB_PORT": str(port), "OTHER_PORT": "1", "SECRET": str(port)}
    lab.command(*words, env=environment, cwd=tmp_path)
    wait_until(lambda: listens(port), "it serves")

    line = undo(port, tmp_path)

    assert line == (f"cd {tmp_path} && env WEB_PORT={port} /usr/bin/python3 -S serve.py --name ''")
    lab.command("/bin/sh", "-c", line)
    wait_until(lambda: listens(port), "it serves again")


def test_a_path_with_a_space_is_one_word(lab: Lab, tmp_path: Path) -> None:
    """Its whole command line; it is given the socket, and needs no argument to keep it."""
    port, program = free_port(), tmp_path / "my server"
    shutil.copy("/bin/cat", program)
    start = (
        "import os, socket, sys; kept = socket.create_server(('127.0.0.1', int(sys.argv[1]))); "
        "kept.set_inheritable(True); ends = os.pipe(); os.set_inheritable(ends[1], True); "
        "os.dup2(ends[0], 0); os.execv('./my server', ['./my server'])"
    )
    lab.command("/usr/bin/python3", "-S", "-c", start, str(port), cwd=tmp_path)
    wait_until(lambda: is_served(port), "it listens")

    assert undo(port, tmp_path) == f"cd {tmp_path} && './my server'"


def test_a_title_without_a_colon_is_no_command(lab: Lab) -> None:
    """As puma has it; one that is longer than the command line was is not padded."""
    port = free_port()
    title = f"puma 6.4.2 (tcp://127.0.0.1:{port}) [{'shop-' * 80}]"
    code = (
        "socket(S, PF_INET, SOCK_STREAM, 0); bind(S, sockaddr_in($ARGV[1], INADDR_LOOPBACK)); "
        "$0 = $ARGV[0]; listen(S, 5); sleep 1000"
    )
    lab.command("/usr/bin/perl", "-MSocket", "-e", code, title, str(port))
    wait_until(lambda: listens(port), "it serves")

    last = ultra("resolve", *QUICK, str(port)).stdout.splitlines()[-1]

    assert last == "  start it again: not known, it rewrote its command line"
