"""Odd input and odd surroundings: one line that says what is wrong, and never an internal error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import Run, ultra
from tests.lab.ports import free_port
from tests.lab.processes import answered_by

if TYPE_CHECKING:
    from tests.lab.processes import Lab


def assert_one_line(run: Run, named: str) -> None:
    assert run.status == 2, run.stdout + run.stderr
    assert run.stdout == ""
    assert len(run.stderr.splitlines()) == 1, run.stderr
    assert named in run.stderr


@pytest.mark.parametrize("option", ["--docker-timeout", "--grace", "--settle"])
def test_a_time_that_no_clock_can_wait_for(lab: Lab, option: str) -> None:
    port = free_port()
    server = lab.start("answering", port)

    assert_one_line(ultra("resolve", option, "1e10", str(port)), option)

    assert answered_by(port) == server.pid
    assert server.signals() == []


@pytest.mark.parametrize(
    ("address", "named"), [("[fe80::1]", "fe80::1"), ("192.0.2.1", "192.0.2.1")]
)
@pytest.mark.parametrize("command", ["resolve", "who"])
def test_an_address_that_this_machine_does_not_have(
    lab: Lab, command: str, address: str, named: str
) -> None:
    port = free_port()
    server = lab.start("answering", port)

    assert_one_line(ultra(command, f"{address}:{port}", "--no-docker"), named)

    assert answered_by(port) == server.pid


@pytest.mark.root
def test_a_user_without_a_name_or_a_home(lab: Lab, as_nobody: tuple[str, ...]) -> None:
    port, free = free_port(), free_port()
    server = lab.start("answering", port)
    nameless = tuple(word.replace("65534", "54321") for word in as_nobody)
    prefix = ("env", "-u", "HOME", "-u", "USER", "-u", "LOGNAME", *nameless)

    held = ultra("resolve", "--json", str(port), prefix=prefix)
    assert (held.status, held.port(f"{port}/tcp")["verdict"]) == (4, "hidden"), held.stdout
    assert ultra("resolve", str(free), prefix=prefix).status == 0
    assert ultra("who", str(free), prefix=prefix).status == 0

    assert answered_by(port) == server.pid
