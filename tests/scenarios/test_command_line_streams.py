"""Where the command's streams lead, be it nowhere; and what a quick answer may load."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import COMMAND, ultra
from tests.lab.ports import free_port
from tests.lab.processes import answered_by, running, stays_free

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
    assert stays_free(port)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"], ids=["stdin", "stdout", "stderr"])
def test_a_closed_standard_stream(lab: Lab, closed: str) -> None:
    port = free_port()
    server = lab.start("answering", port)
    shell = ("/bin/sh", "-c", f'exec "$@" {closed}', "sh")

    asked = ultra("resolve", str(port), "-i", *QUICK, prefix=shell)
    assert asked.status == 1
    assert "internal error" not in asked.stderr
    assert answered_by(port) == server.pid

    run = ultra("resolve", str(port), *QUICK, prefix=shell)
    assert run.status == 0
    assert "internal error" not in run.stderr
    assert stays_free(port)


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
    assert stays_free(port)


def test_a_free_port_loads_nothing_heavy() -> None:
    run = ultra(
        "resolve", str(free_port()), "--no-docker", prefix=[sys.executable, "-X", "importtime"]
    )

    assert run.status == 0
    loaded = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines()}
    assert "resolver.portspec" in loaded, "the list of imports is not what it seems"
    assert not loaded & {"docker", "psutil", "tabulate", "rich", "requests", "pydantic"}
