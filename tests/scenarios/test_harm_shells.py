"""Somebody types into it: a shell or an interpreter's prompt is never ended, whatever it starts."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import ultra
from tests.lab.ports import free_port
from tests.lab.processes import answered_by, unavailable, wait_until
from tests.scenarios.test_reloaders import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.processes import Lab

pytestmark = pytest.mark.slow

FAST = ("--json", "--grace", "1", "--settle", "1")
ANOTHER_SESSION = ("setsid", "--wait")


@contextlib.contextmanager
def prompt(lab: Lab, *argv: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A program with a controlling terminal of its own, and the other end of that terminal."""
    ours, theirs = pty.openpty()
    plain = {"PS1": "$ ", "TERM": "dumb", "PYTHON_BASIC_REPL": "1"}
    popen = subprocess.Popen(
        [shutil.which("setsid") or unavailable("setsid is missing"), "--ctty", *argv],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, **plain, **lab.marked()},
    )
    os.close(theirs)
    try:
        yield popen, ours
    finally:
        popen.kill()
        popen.wait()
        os.close(ours)


def outlives(lab: Lab, port: int, argv: list[str], text: str, *options: str) -> None:
    """Types a loop at a prompt, resolves its port, and asserts that the prompt lives on."""
    with prompt(lab, *argv) as (session, terminal):
        os.write(terminal, text.encode())
        wait_until(lambda: answered_by(port), "the loop's server answers")

        run = ultra("resolve", str(port), *FAST, *options, prefix=ANOTHER_SESSION)

        report = run.port(f"{port}/tcp")
        assert session.poll() is None, f"the prompt was ended: {run.stdout}"
        assert report["verdict"] in {"retaken", "advised", "refused"}, run.stdout + run.stderr
        assert run.status in {1, 3}
        assert str(session.pid) in run.stdout, "it is named"
        wait_until(lambda: answered_by(port), "the loop goes on")
        lab.reap()


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "force"])
@pytest.mark.parametrize(
    "argv",
    [
        ["bash", "--norc", "-o", "vi"],
        ["bash", "--norc", "-O", "autocd"],
        ["bash", "--init-file", "RC"],
        ["bash", "--rcfile", "RC"],
        ["busybox", "sh"],
        ["sh"],
    ],
    ids=" ".join,
)
def test_a_loop_typed_into_a_shell(
    lab: Lab, tmp_path: Path, argv: list[str], force: tuple[str, ...]
) -> None:
    if shutil.which(argv[0]) is None:
        unavailable(f"{argv[0]} is missing")
    file = tmp_path / "rc"
    file.write_text("PS1='> '\n")
    port = free_port()
    words = [str(file) if word == "RC" else word for word in argv]

    outlives(lab, port, words, f"while true; do {serving(port)}; done\n", *force)


@pytest.mark.parametrize("name", ["tcsh", "nu", "pwsh"])
def test_a_loop_typed_into_a_shell_of_another_family(lab: Lab, tmp_path: Path, name: str) -> None:
    """bash under their names: it ignores SIGTERM at its prompt, as they do."""
    port, program = free_port(), tmp_path / name
    shutil.copy("/bin/bash", program)

    outlives(lab, port, [str(program), "--norc"], f"while true; do {serving(port)}; done\n")


def test_a_loop_typed_into_an_interpreter(lab: Lab) -> None:
    port = free_port()
    loop = f"while True: subprocess.call({serving(port).split()!r})"

    outlives(lab, port, [sys.executable, "-q"], f"import subprocess\n{loop}\n\n")
