"""Servers whose checkout was deleted, or whose session is over: found, and ended when asked for."""

from __future__ import annotations

import json
import os
import pty
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.lab.cli import ultra
from tests.lab.namespaces import network_namespace
from tests.lab.processes import alive, wait_until
from tests.lab.terminal import typed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.checkouts import Checkouts
    from tests.lab.cli import Run
    from tests.lab.processes import Lab

SERVE = """
import os, socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print(os.getpid(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def inside(lab: Lab) -> Iterator[tuple[str, ...]]:
    """What runs a command where nobody else has left anything behind."""
    with network_namespace(lab) as prefix:  # with the mounts of the machine, as /dev/pts
        yield ("/usr/bin/nsenter", f"--net=/run/netns/{prefix[-1]}")


def on_a_terminal(inside: tuple[str, ...], lab: Lab, place: Path, serve: str) -> int:
    """The PID of a server that outlives the session and the terminal on which it was begun."""
    leader, terminal = pty.fork()
    if leader == 0:
        os.chdir(place)
        words = [*inside, "/bin/sh", "-c", f"trap '' HUP; {serve} & sleep 1"]
        os.execvpe(words[0], words, {**os.environ, **lab.marked()})  # noqa: S606
    said = b""
    while b"\n" not in said:
        said += os.read(terminal, 4096)
    os.waitpid(leader, 0)
    os.close(terminal)
    return int(said)


def begun(ready: Path) -> int:
    """The PID that a server has written to `ready`, where init has adopted it."""
    wait_until(lambda: ready.exists() and ready.read_text(encoding="utf-8"), "it listens")
    pid: int = json.loads(ready.read_text(encoding="utf-8"))["pid"]
    wait_until(lambda: psutil.Process(pid).ppid() == 1, "init has adopted it")
    return pid


@pytest.mark.root
def test_what_was_left_behind_is_found_and_ended(
    checkouts: Checkouts, lab: Lab, inside: tuple[str, ...]
) -> None:
    gone = checkouts.main.parent / "gone"
    gone.mkdir()
    deleted = lab.start("answering", 7001, prefix=(*inside, "env", "-C", str(gone)))
    gone.rmdir()
    (checkouts.main / "serve.py").write_text(SERVE, encoding="utf-8")
    left = on_a_terminal(inside, lab, checkouts.main, "/usr/bin/python3 serve.py 7002")
    living = lab.start("answering", 7003, prefix=(*inside, "env", "-C", str(checkouts.main)))

    def run(*words: str) -> Run:
        return ultra(*words, "--no-docker", cwd=checkouts.other, prefix=inside)

    notes = {
        each["label"]: each["notes"][0] for each in run("who", "--stale", "--json").json["ports"]
    }
    assert set(notes) == {"7001/tcp", "7002/tcp"}
    assert notes["7001/tcp"] == f"left behind: {gone} was deleted"
    assert notes["7002/tcp"].startswith("left behind: its session (process ")

    asked = run("resolve", "--stale")
    assert "nothing was ended: --yes ends what is listed here" in asked.stderr
    assert alive(deleted.pid)
    assert alive(left)

    done = run("resolve", "--stale", "--yes", "--settle", "0.1")
    assert done.status == 0, done.stdout + done.stderr
    assert not alive(deleted.pid)
    assert not alive(left)
    assert alive(living.pid)
    for command in ("who", "resolve"):
        nothing = run(command, "--stale")
        assert (nothing.status, nothing.stdout) == (0, "nothing was left behind\n")


@pytest.mark.root
def test_a_daemon_is_not_left_behind(
    checkouts: Checkouts, lab: Lab, inside: tuple[str, ...]
) -> None:
    """It has left its session's leader behind on purpose: fork, setsid, fork."""
    ready = checkouts.main / "ready"
    serve = f"{sys.executable} -S -m tests.lab.servers.answering 7004 </dev/null >{ready} 2>&1"
    words = ("/bin/sh", "-c", f'setsid -f sh -c "{serve} & sleep 1"; sleep 1')
    lab.command(*inside, *words, cwd=checkouts.main)
    begun(ready)
    who = ultra("who", "--stale", "--no-docker", "--json", cwd=checkouts.other, prefix=inside)
    assert who.json["ports"] == []


@pytest.mark.root
def test_a_no_shows_it_once(checkouts: Checkouts, lab: Lab, inside: tuple[str, ...]) -> None:
    gone = checkouts.main.parent / "gone"
    gone.mkdir()
    server = lab.start("answering", 7005, prefix=(*inside, "env", "-C", str(gone)))
    gone.rmdir()
    words = ("resolve", "--stale", "--no-docker")

    status, shown = typed(*words, answers={"? [y/N]": "n"}, cwd=checkouts.other, prefix=inside)

    assert status == 0, shown
    assert shown.count("7005/tcp") == 2, "in its headline, and in the question"
    assert shown.endswith("nothing was ended\n")
    assert alive(server.pid)
