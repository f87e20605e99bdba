"""Shells that go on though their server was ended: no loop makes a "freed" untrue."""

from __future__ import annotations

import contextlib
import os
import pty
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.lab.cli import ultra
from tests.lab.ports import free_port, is_free, is_served
from tests.lab.processes import alive, stays_free, wait_until
from tests.lab.shells import shell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.cli import Run
    from tests.lab.processes import Lab

pytestmark = pytest.mark.slow

SHELLS = ("bash", "dash", "zsh")
GOES_ON = "goes on with what it was told"
CTRL_C = b"\x03"


def serving(port: int) -> str:
    return f"{sys.executable} -m http.server --bind 127.0.0.1 {port}"


class Terminal:
    """An interactive shell, the leader of the session of a terminal of its own."""

    def __init__(self, lab: Lab, name: str) -> None:
        words = (*shell(name), "-i")
        self.pid, self._keys = pty.fork()
        if self.pid == 0:
            os.execvpe(words[0], words, {**os.environ, **lab.marked()})  # noqa: S606
        self.ended = False

    def press(self, keys: bytes) -> None:
        os.write(self._keys, keys)

    def runs(self) -> list[str]:
        """The names of what it has started."""
        return [each.name() for each in psutil.Process(self.pid).children()]

    def has_ended(self) -> bool:
        self.ended = self.ended or os.waitpid(self.pid, os.WNOHANG)[0] == self.pid
        return self.ended

    def close(self) -> None:
        os.close(self._keys)
        if not self.ended:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)


@contextlib.contextmanager
def typed(lab: Lab, name: str, line: str, port: int) -> Iterator[Terminal]:
    """A line typed into an interactive shell, which serves the port by now."""
    terminal = Terminal(lab, name)
    try:
        terminal.press(line.encode() + b"\n")
        wait_until(lambda: is_served(port), f"{port} is served", 60)
        yield terminal
    finally:
        lab.reap()
        terminal.close()
        lab.reap()


def resolved(port: int) -> tuple[Run, dict[str, Any]]:
    run = ultra("resolve", str(port), "--json")
    return run, run.port(f"{port}/tcp")


def freed(port: int) -> str:
    """Asserts that the port was freed, and stays so; the notes."""
    run, report = resolved(port)
    assert (run.status, report["verdict"]) == (0, "freed"), run.stdout + run.stderr
    assert stays_free(port)
    return "\n".join(report["notes"])


def advice(port: int) -> list[list[str]]:
    """Asserts that the port was taken back, by a loop in a terminal; what it says to run."""
    run, report = resolved(port)
    assert (run.status, report["verdict"]) == (1, "retaken"), run.stdout + run.stderr
    [taker] = report["retaken_by"]
    assert "a loop in that terminal" in taker["step"]["why"]
    return [shlex.split(each, comments=True) for each in taker["step"]["command_lines"]]


@pytest.mark.parametrize("name", SHELLS)
def test_a_loop_that_sleeps_and_what_ends_it(lab: Lab, name: str) -> None:
    port = free_port()
    with typed(lab, name, f"while true; do {serving(port)}; sleep 2; done", port) as terminal:
        [command] = advice(port)

        assert command == ["kill", "-HUP", str(terminal.pid)]
        assert not terminal.has_ended()
        subprocess.run(command, check=True)
        wait_until(terminal.has_ended, "the shell ends")
        wait_until(lambda: is_free(port), "its server ends with it")
        assert lab.frees(port, seconds=4)


def test_a_loop_far_above_its_server(lab: Lab, tmp_path: Path) -> None:
    """As one around scripts of npm that call each other."""
    port, called = free_port(), ""
    for number in range(6):
        script = tmp_path / f"{number}.sh"
        script.write_text(f"{called or serving(port)}\ntrue\n", encoding="utf-8")
        called = f"sh {script}"
    with typed(lab, "bash", f"while true; do {called}; sleep 2; done", port) as terminal:
        [command] = advice(port)

        assert command == ["kill", "-HUP", str(terminal.pid)]


def test_ctrl_c_ends_the_loop_where_it_sleeps(lab: Lab) -> None:
    port = free_port()
    with typed(lab, "bash", f"while true; do {serving(port)}; sleep 2; done", port) as terminal:
        terminal.press(CTRL_C)
        wait_until(
            lambda: terminal.runs() == ["sleep"], "the server has ended, and the loop sleeps"
        )
        terminal.press(CTRL_C)

        assert stays_free(port, 4)
        assert not terminal.has_ended()


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize("line", ["( {} ) &", "{} &", "( {} )"])
def test_a_subshell_and_what_ends_it(lab: Lab, name: str, line: str) -> None:
    port = free_port()
    loop = line.format(f"while true; do {serving(port)}; sleep 2; done")
    with typed(lab, name, loop, port) as terminal:
        kill, again = advice(port)

        assert kill[0] == "kill"
        assert kill[1:] != [str(terminal.pid)]
        assert again == ["ultra-ports", "resolve", f"{port}/tcp"]
        subprocess.run(kill, check=True)
        wait_until(lambda: not alive(int(kill[1])), "the subshell ends")
        assert not is_free(port)
        assert GOES_ON not in freed(port)
        assert not terminal.has_ended()


@pytest.mark.parametrize("name", SHELLS)
def test_a_shell_that_is_back_at_its_prompt(lab: Lab, name: str) -> None:
    """Had it been waited for in vain, that would be said."""
    port = free_port()
    with typed(lab, name, serving(port), port):
        assert GOES_ON not in freed(port)


def test_a_server_in_the_background_of_other_work(lab: Lab) -> None:
    port = free_port()
    with typed(lab, "bash", f"{serving(port)} &\nsleep 1000", port):
        assert GOES_ON not in freed(port)


@pytest.mark.parametrize("name", SHELLS)
def test_a_sequence_is_no_loop(lab: Lab, name: str) -> None:
    port = free_port()
    with typed(lab, name, f"{serving(port)}; sleep 1000", port) as terminal:
        assert f"{name} {terminal.pid} {GOES_ON}" in freed(port)


def test_a_sequence_that_is_over_in_time(lab: Lab) -> None:
    port = free_port()
    with typed(lab, "bash", f"{serving(port)}; sleep 3", port):
        assert GOES_ON not in freed(port)


def test_a_script_that_sleeps_is_ended_with_its_server(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    path = tmp_path / "serve.sh"
    path.write_text(f"while true; do {serving(port)}; sleep 2; done\n")
    loop = lab.command("sh", str(path))
    wait_until(lambda: is_served(port), f"{port} is served", 60)

    assert "taken back" in freed(port)
    assert not alive(loop.pid)


def test_a_script_that_waits_for_another_program(lab: Lab) -> None:
    port = free_port()
    lab.command("sh", "-c", f"{serving(port)} & sleep 1000 & wait")
    wait_until(lambda: is_served(port), f"{port} is served", 60)

    assert GOES_ON not in freed(port)


def test_another_program_that_lives_on_is_named(lab: Lab) -> None:
    """What it does next cannot be told, and need not come within the time that is watched."""
    port = free_port()
    words = serving(port).split()
    code = f"import subprocess, time; subprocess.run({words}); time.sleep(600)"
    parent = lab.command(sys.executable, "-c", code)
    wait_until(lambda: is_served(port), f"{port} is served", 60)

    named = f"{parent.pid}, which started it, lives on: it may start it again"
    assert named in freed(port)
    assert alive(parent.pid)


def test_a_script_that_has_ended_unnoticed(lab: Lab) -> None:
    """Its parent, this test, has not asked for its status: a zombie goes on with nothing."""
    port = free_port()
    script = lab.command("sh", "-c", f"{serving(port)} & wait")
    wait_until(lambda: is_served(port), f"{port} is served", 60)

    assert GOES_ON not in freed(port)
    assert not alive(script.pid)
    assert psutil.pid_exists(script.pid)
