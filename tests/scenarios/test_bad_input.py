"""Input that makes no sense: exit 2, one line that names the bad part, and nothing is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lab.cli import Run, refused, ultra, ultra_each
from tests.lab.ports import free_port
from tests.lab.processes import answered_by

if TYPE_CHECKING:
    from tests.lab.processes import Lab

# What is typed, and which of these its message names.
BAD_PORTS = [
    ("0", ["'0'"]),
    ("65536", ["65536"]),
    ("abc", ["abc"]),
    ("8085/", ["8085/"]),
    ("8085/sctp", ["sctp"]),
    ("8085/TCPX", ["TCPX"]),
    ("8010-8000", ["8010-8000"]),
    ("65530-65536", ["65536"]),
    ("8000-", ["8000-"]),
    ("٨٠٨٥", ["٨٠٨٥", r"\u0668\u0660\u0668\u0665"]),
    ("80²", ["80²", r"80\xb2"]),
    ("elsewhere.example:8085", ["elsewhere.example"]),
    ("http://elsewhere.example:8085/x", ["elsewhere.example"]),
    ("http://", ["http://"]),
    ("::1:8085", ["::1:8085"]),
    ("", ["''", "empty"]),
    ("8085,,8086", ["8085,,8086"]),
    ("[::1]8085", ["[::1]8085"]),
    ("1.2.3:80", ["1.2.3"]),
    ("1.2.3.256:80", ["1.2.3.256"]),
    ("@:8085", ["@:8085"]),
    ("+8085", ["+8085"]),
    ("80_85", ["80_85"]),
    ("8085.0", ["8085.0"]),
    ("8085\n", [r"8085\n"]),
    ("\x1b[31m8085", [r"\x1b"]),
    ("127.0.0.1:", ["127.0.0.1:"]),
    ("http", ["http"]),
]


def assert_one_line(run: Run, named: list[str], words: object = "") -> None:
    assert run.status == 2, words
    assert run.stdout == "", words
    assert len(run.stderr.splitlines()) == 1, (words, run.stderr)
    assert any(part in run.stderr for part in named), (words, run.stderr)
    assert "\x1b" not in run.stderr, words


def test_a_bad_port_beside_a_good_one(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port)
    good = str(port)

    lines = [
        (words, named)
        for bad, named in BAD_PORTS
        for words in (("resolve", good, bad), ("who", "--json", bad, good))
    ]
    for (words, named), run in zip(lines, ultra_each(words for words, _ in lines), strict=True):
        assert_one_line(run, named, words)

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


def test_bad_seconds(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port)

    refused(
        (
            ((option, seconds), option)
            for option in ("--grace", "--settle", "--docker-timeout")
            for seconds in ("-1", "abc", "nan", "1e400", "")
        ),
        *("resolve", str(port)),
    )

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
