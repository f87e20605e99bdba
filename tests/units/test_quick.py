"""The quick reading of a command line, and the first look at ports: each equals the long way."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.exceptions import TyperException

from resolver.cli import quick
from resolver.cli.app import build
from tests.lab.namespaces import network_namespace
from tests.lab.ports import free_port

if TYPE_CHECKING:
    from tests.lab.processes import Lab

WORDS = [
    *("8085", "api", "127.0.0.1:80", "", "a b", "-", "--", "-1", "0.5", "3", "1e3", ".", "nan"),
    *("--json", "-n", "--dry-run", "--dry", "-q", "-v", "--verbose", "-qv", "--force", "-i"),
    *("--grace", "--settle", "--docker-timeout", "--grace=3", "--no-docker", "--stop-services"),
    *("--all", "--complete", "--help", "--nonsense", "--plan-out", "99999999", "--compose", "²"),
]


def by_typer(command: str, words: list[str]) -> dict[str, Any]:
    """What typer reads, without what was not given."""
    made = build(command)
    context = made.make_context(command, list(words))
    defaults = {option.name: option.default for option in made.params}
    given = {k: v for k, v in context.params.items() if v != defaults[k] and v != ()}
    given.pop("help", None)
    return given


@given(st.sampled_from(["resolve", "who"]), st.lists(st.sampled_from(WORDS), max_size=6))
def test_what_is_read_quickly_is_what_typer_reads(command: str, words: list[str]) -> None:
    found = quick.read([command, *words])
    if found is None:
        return
    read_command, ports, options = found
    try:
        theirs = by_typer(command, words)
    except TyperException as error:
        raise AssertionError(f"typer refuses {words}: {error}") from error
    assert read_command == command
    assert list(theirs.pop("ports")) == ports
    defaults = {option.name: option.default for option in build(command).params}
    assert {k: v for k, v in options.items() if v != defaults[k]} == theirs


@pytest.mark.parametrize(
    "words",
    [
        ["resolve", "8085"],
        ["resolve", "-n", "8085", "--json", "9000/udp", "--grace", "3"],
        ["who", "api", "-q", "--docker-timeout", "0.5"],
    ],
)
def test_the_commonest_lines_are_read_quickly(words: list[str]) -> None:
    assert quick.read(words) is not None


@pytest.mark.parametrize(
    "words",
    [[], ["who"], ["resolve", "-h"], ["apply", "p"], ["resolve", "8085", "-nq"], ["--version"]],
)
def test_the_others_are_left_to_typer(words: list[str]) -> None:
    assert quick.read(words) is None


HEAVY = {"docker", "psutil", "tabulate", "rich", "typer", "requests", "dataclasses", "inspect"}
# Of the standard library, what takes milliseconds to load, and is for engines, rules and odd words
SLOW = {
    *("typing", "pathlib", "urllib.parse", "json", "shutil", "signal", "subprocess", "threading"),
    *("re", "shlex", "contextlib", "importlib.util", "random", "tempfile"),
}
LOADED = """
import sys
from resolver.cli import main
sys.argv = ["ultra-ports", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(*sorted(sys.modules), file=sys.stderr)
"""


def loaded(*arguments: str, prefix: tuple[str, ...] = ()) -> set[str]:
    """The modules that a command has loaded in the end."""
    unmeasured = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")}
    done = subprocess.run(
        [*prefix, sys.executable, "-c", LOADED, *arguments],
        env=unmeasured,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.split())


def test_a_free_port_loads_nothing_heavy() -> None:
    assert not loaded("resolve", str(free_port())) & HEAVY


def test_a_held_port_loads_nothing_heavy(lab: Lab) -> None:
    port = free_port()
    lab.start("answering", port)
    found = loaded("who", str(port))
    assert "resolver.classify.local" in found
    assert not found & HEAVY


@pytest.mark.root
def test_where_nothing_is_odd_nothing_slow_is_loaded(lab: Lab) -> None:
    with network_namespace(lab) as inside:
        port = free_port()
        lab.start("answering", port, prefix=inside)
        for words in (("who", str(port)), ("resolve", str(free_port()))):
            found = loaded(*words, "--no-docker", prefix=inside)
            assert "resolver.gather" in found
            assert not found & SLOW
