"""What a person reads: one screen of a terminal, whole lines in a pipe, and no secrets."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

from resolver.model import Command
from resolver.report.style import TextStyle, masked
from tests.lab.cli import ultra
from tests.lab.ports import free_port, is_served
from tests.lab.processes import wait_until
from tests.lab.screen import plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab.processes import Lab

MOST = 6  # lines for one holder
HEADERS = ["PORT", "HOLDER", "PID", "USER", "PROJECT", "COMMAND"]
BOTH_FAMILIES = """\
import socket, sys, time
port = int(sys.argv[1])
ours = socket.create_server(("0.0.0.0", port))
also = socket.create_server(("::", port), family=socket.AF_INET6)
time.sleep(600)
"""
SECRETS = ("--password=hunter2", "--api-key", "s3cr3t", "DB_TOKEN=abcdef", "pg://ann:pw@db/x")
LONG = [f"--option-{number}=value" for number in range(12)]


@pytest.fixture
def served(lab: Lab) -> int:
    """A port that one process holds on both families; its command line is long, with secrets."""
    port = free_port()
    lab.command(sys.executable, "-c", BOTH_FAMILIES, str(port), *SECRETS, *LONG)
    wait_until(lambda: is_served(port), "it listens")
    return port


def assert_no_secrets(text: str) -> None:
    for secret in ("hunter2", "s3cr3t", "abcdef", ":pw@"):
        assert secret not in text


def test_who_fits_one_screen(served: int, screen: Callable[..., str]) -> None:
    told = screen("who", str(served))

    lines = plain(told)
    assert len(lines) <= MOST, told
    assert max(map(len, lines)) <= 80, told
    assert lines[0] == f"{served}/tcp held on 0.0.0.0 and [::], reachable from other machines"
    assert lines[-1] == f"  to free it: ultra-ports resolve {served}"
    assert f"\x1b[1multra-ports resolve {served}" in told
    assert "\x1b[1m\x1b[33mheld" in told
    assert_no_secrets(told)


@pytest.mark.parametrize("environment", ["NO_COLOR=1", "TERM=dumb"])
def test_no_colour_where_none_is_wanted(
    served: int, screen: Callable[..., str], environment: str
) -> None:
    told = screen("who", str(served), environment=f"env {environment}")
    assert f"to free it: ultra-ports resolve {served}" in told
    assert "\x1b[" not in told


def test_a_pipe_gets_whole_lines(served: int) -> None:
    run = ultra("who", str(served))

    lines = run.stdout.splitlines()
    assert len(lines) <= MOST
    assert all(each in lines[1] for each in LONG)
    assert lines[-1] == f"  to free it: ultra-ports resolve {served}"
    assert_no_secrets(run.stdout)
    assert "\x1b[1m" in ultra("who", str(served), env={"FORCE_COLOR": "1"}).stdout


def test_every_port_has_a_line_that_fits(served: int, screen: Callable[..., str]) -> None:
    lines = plain(screen("who", "--no-docker"))

    assert max(map(len, lines)) <= 80
    [line] = [each for each in lines if each.startswith(f"{served}/tcp ")]
    assert line.endswith("…")
    assert "\x1b" not in line


def test_a_listing_in_a_pipe_is_not_cut(served: int) -> None:
    run = ultra("who")

    assert (run.status, run.stdout.split()[:6]) == (0, HEADERS)
    [line] = [each for each in run.stdout.splitlines() if each.startswith(f"{served}/tcp ")]
    assert "--option-0=value" in line
    assert_no_secrets(run.stdout)


@pytest.mark.parametrize("width", [60, 80])
def test_healths_table_and_messages_fit_the_terminal(
    served: int, width: int, screen: Callable[..., str]
) -> None:
    words = ("health", "--no-docker", "--timeout", "0.1", str(served), str(free_port()))
    rows = plain(screen(*words, environment=f"env COLUMNS={width}"))

    assert max(map(len, rows)) <= width, rows
    assert rows[0].split() == ["SERVICE", "PORT", "LEVEL", "HEALTH", "HOLDER", "ANSWER"]
    assert rows[1].split()[0] == f"{served}/tcp", "a port is never cut"
    late = ("wait", f"127.0.0.1:{served}", "--until", "free", "--timeout", "0")
    rows = plain(screen(*late, environment=f"env COLUMNS={width}"))
    said = f"ultra-ports: not free after 0 s: 127.0.0.1:{served}/tcp is held by python"
    assert " ".join(map(str.strip, rows)).startswith(said), "no word is broken"
    assert max(map(len, rows)) <= width, rows


@pytest.mark.root
def test_what_is_hidden_is_summed_up_once(served: int, as_nobody: tuple[str, ...]) -> None:
    run = ultra("who", prefix=as_nobody)

    assert run.status == 0
    [summary] = [each for each in run.stdout.splitlines() if f"{served}/tcp" in each]
    assert re.search(r"\d+ (more )?ports? (is|are) held by root \(not visible to you", summary)
    assert run.stdout.count("run: sudo ") == 1
    assert run.stdout.splitlines()[-1].endswith("ultra-ports who")


def test_who_wants_to_know_more_gets_everything(served: int) -> None:
    run = ultra("who", "-v", str(served))

    for part in ("local: ", "→", "by hand: kill ", "reachable from other machines, on 0.0.0.0"):
        assert part in run.stdout, part
    assert_no_secrets(run.stdout)


def test_what_was_freed_is_started_again_by_one_line(served: int) -> None:
    run = ultra("resolve", "--settle", "0.3", str(served))

    lines = run.stdout.splitlines()
    assert (run.status, lines[0].partition(":")[0]) == (0, f"{served}/tcp freed")
    assert len(lines) <= MOST
    assert lines[-1].startswith("  start it again: cd ")
    assert "to free it" not in run.stdout
    assert_no_secrets(run.stdout)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("run --password=a --user=b", "run --password=*** --user=b"),
        ("run --api-key a -v", "run --api-key *** -v"),
        ("run --token -v", "run --token -v"),
        ("PGPASSWORD=a psql", "PGPASSWORD=*** psql"),
        ("sh -c x;API_KEY=a;run", "sh -c x;API_KEY=***;run"),
        ("redis://me:a@host/0 http://host/x", "redis://me:***@host/0 http://host/x"),
        ("python -m http.server 8085", "python -m http.server 8085"),
    ],
)
def test_secrets_are_masked(text: str, told: str) -> None:
    assert masked(text) == told


def test_a_word_of_a_megabyte_is_looked_through_in_no_time() -> None:
    word = "x" * 1_000_000
    assert masked(f"{word} {word}-token={word}") == f"{word} {word}-token=***"


def test_a_masked_command_says_where_the_whole_one_is() -> None:
    command = Command(("redis-server", "--requirepass", "a"))
    line = TextStyle().command("start it again", command)
    assert line == "  start it again: redis-server --requirepass '***'   # *** is in the JSON"
