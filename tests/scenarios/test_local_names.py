"""Names and command lines from the machine, which may hold anything, never reach a terminal raw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import ultra
from tests.lab.ports import free_port
from tests.lab.processes import answered_by

if TYPE_CHECKING:
    from tests.lab.processes import Lab

QUICK = ("--grace", "1", "--settle", "0.3")
ODD_NAME = "a (b) \x1b[7m\nc) d"  # 15 bytes, as much as the kernel keeps
ODD_ARGUMENTS = {
    "escape": "\x1b]0;owned\x07",
    "c1-control": "\x9b31m",
    "right-to-left": "\u202egnp.exe",
    "newline": "one\ntwo\r\x0bthree\u2028four",
    "quotes": "a 'b' \"c\" $(d) `e`",
}
MUST_NOT_SHOW = "\x1b\x07\x9b\u202e\r\x0b\u2028"


@pytest.mark.parametrize("command", ["resolve", "who"])
def test_an_odd_process_name(lab: Lab, gather: dict[str, str], command: str) -> None:
    port = free_port()
    server = lab.start("answering", port, "--name", ODD_NAME)

    text = ultra("who", str(port), env=gather)
    run = ultra(command, str(port), "--json", *(QUICK if command == "resolve" else ()), env=gather)

    [holder] = run.port(f"{port}/tcp")["holders"]
    assert run.status == text.status == 0
    assert holder["processes"][0]["name"] == ODD_NAME
    assert holder["processes"][0]["pid"] == server.pid
    assert not set(MUST_NOT_SHOW) & set(text.stdout + text.stderr + run.stdout + run.stderr)
    assert "a (b)" in text.stdout
    assert server.alive == (command == "who")


@pytest.mark.parametrize("odd", ODD_ARGUMENTS.values(), ids=ODD_ARGUMENTS.keys())
def test_an_odd_command_line(lab: Lab, odd: str) -> None:
    port = free_port()
    lab.start("answering", port, "--padding", odd)

    who = ultra("who", str(port))
    run = ultra("resolve", str(port), *QUICK)

    assert (who.status, run.status) == (0, 0)
    for shown in (who.stdout, who.stderr, run.stdout, run.stderr):
        assert not set(MUST_NOT_SHOW) & set(shown)
        assert "\ntwo" not in shown
    assert lab.frees(port)


def test_a_command_line_that_is_not_text(lab: Lab) -> None:
    port = free_port()
    lab.start("answering", port, "--padding", b"caf\xe9 \xff\xfe")

    who = ultra("who", str(port))
    run = ultra("resolve", str(port), "--json", *QUICK)

    assert (who.status, run.status) == (0, 0)
    assert "caf" in " ".join(run.port(f"{port}/tcp")["holders"][0]["processes"][0]["command"])
    assert lab.frees(port)


def test_a_command_line_of_10_kilobytes_is_cut(lab: Lab) -> None:
    port = free_port()
    lab.start("answering", port, "--padding", "x" * 10_000)

    who = ultra("who", str(port))
    run = ultra("resolve", str(port), *QUICK)

    assert (who.status, run.status) == (0, 0)
    for shown in (who.stdout, run.stdout):
        assert "x" * 2000 not in shown
        assert len(shown) < 8000
    assert lab.frees(port)


@pytest.mark.parametrize(
    "terminal",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=["ascii", "c-locale"],
)
def test_a_terminal_that_knows_no_arrows(lab: Lab, terminal: dict[str, str]) -> None:
    port = free_port()
    server = lab.start("answering", port, "--padding", "żółw")

    who = ultra("who", str(port), env=terminal)
    assert who.status == 0
    assert str(server.pid) in who.stdout
    assert answered_by(port) == server.pid

    run = ultra("resolve", str(port), *QUICK, env=terminal)
    assert run.status == 0
    assert lab.frees(port)
