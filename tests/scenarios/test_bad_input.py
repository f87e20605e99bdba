"""Input that makes no sense: exit 2, one line that names the bad part, and nothing is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import Run, ultra
from tests.lab.ports import free_port
from tests.lab.processes import answered_by

if TYPE_CHECKING:
    from tests.lab.processes import Lab

# What is typed, and which of these its message names.
BAD_PORTS = {
    "zero": ("0", ["'0'"]),
    "too-big": ("65536", ["65536"]),
    "word": ("abc", ["abc"]),
    "no-transport": ("8085/", ["8085/"]),
    "odd-transport": ("8085/sctp", ["sctp"]),
    "upper-case-transport": ("8085/TCPX", ["TCPX"]),
    "backward-range": ("8010-8000", ["8010-8000"]),
    "range-past-the-end": ("65530-65536", ["65536"]),
    "open-range": ("8000-", ["8000-"]),
    "arabic-digits": ("٨٠٨٥", ["٨٠٨٥", r"\u0668\u0660\u0668\u0665"]),
    "superscript": ("80²", ["80²", r"80\xb2"]),
    "host-name": ("elsewhere.example:8085", ["elsewhere.example"]),
    "url-of-another-machine": ("http://elsewhere.example:8085/x", ["elsewhere.example"]),
    "url-without-host": ("http://", ["http://"]),
    "no-brackets": ("::1:8085", ["::1:8085"]),
    "empty": ("", ["''", "empty"]),
    "empty-item": ("8085,,8086", ["8085,,8086"]),
    "no-colon": ("[::1]8085", ["[::1]8085"]),
    "short-address": ("1.2.3:80", ["1.2.3"]),
    "big-octet": ("1.2.3.256:80", ["1.2.3.256"]),
    "no-address": ("@:8085", ["@:8085"]),
    "plus": ("+8085", ["+8085"]),
    "underscore": ("80_85", ["80_85"]),
    "fraction": ("8085.0", ["8085.0"]),
    "newline": ("8085\n", [r"8085\n"]),
    "escape": ("\x1b[31m8085", [r"\x1b"]),
    "no-port": ("127.0.0.1:", ["127.0.0.1:"]),
    "service-name": ("http", ["http"]),
}


def assert_one_line(run: Run, named: list[str]) -> None:
    assert run.status == 2
    assert run.stdout == ""
    assert len(run.stderr.splitlines()) == 1, run.stderr
    assert any(part in run.stderr for part in named), run.stderr
    assert "\x1b" not in run.stderr


@pytest.mark.parametrize(("bad", "named"), BAD_PORTS.values(), ids=BAD_PORTS.keys())
def test_a_bad_port_beside_a_good_one(lab: Lab, bad: str, named: list[str]) -> None:
    port = free_port()
    server = lab.start("answering", port)

    assert_one_line(ultra("resolve", str(port), bad), named)
    assert_one_line(ultra("who", "--json", bad, str(port)), named)

    assert answered_by(port) == server.pid
    assert server.signals() == []


def test_a_negative_port(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port)

    bare = ultra("resolve", str(port), "-1")
    after_dashes = ultra("resolve", "--", str(port), "-1")

    assert_one_line(after_dashes, ["-1"])
    assert_one_line(bare, ["-1"])
    assert answered_by(port) == server.pid
    assert server.signals() == []


def test_ten_thousand_digits() -> None:
    run = ultra("resolve", "9" * 10_000)

    assert_one_line(run, ["9"])
    assert len(run.stderr) < 300


@pytest.mark.parametrize("option", ["--grace", "--settle", "--docker-timeout"])
def test_bad_seconds(lab: Lab, option: str) -> None:
    port = free_port()
    server = lab.start("answering", port)

    for seconds in ("-1", "abc", "nan", "1e400", ""):
        assert_one_line(ultra("resolve", str(port), option, seconds), [option])

    assert answered_by(port) == server.pid
    assert server.signals() == []


def test_an_unknown_option(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port)

    run = ultra("resolve", str(port), "--frce")

    assert (run.status, run.stdout) == (2, "")
    assert "--frce" in run.stderr
    assert answered_by(port) == server.pid


def test_an_option_without_its_value() -> None:
    run = ultra("resolve", str(free_port()), "--grace")

    assert (run.status, run.stdout) == (2, "")
    assert "--grace" in run.stderr


def test_an_unknown_command() -> None:
    run = ultra("resolv", str(free_port()))

    assert (run.status, run.stdout) == (2, "")
    assert "resolv" in run.stderr


def test_resolve_wants_a_port() -> None:
    run = ultra("resolve")

    assert (run.status, run.stdout) == (2, "")
    assert "PORT" in run.stderr
