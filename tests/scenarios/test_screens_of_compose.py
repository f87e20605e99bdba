"""The screens of `preflight` and `up`: fitted and coloured on a terminal, whole in a pipe."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import ultra
from tests.lab.compose import published, stack
from tests.lab.ports import free_port
from tests.lab.screen import plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.engine import Engine
    from tests.lab.processes import Lab
    from tests.lab.screen import Screen

pytestmark = [pytest.mark.engine, pytest.mark.slow]

WIDTH = 80
NAME = "a-service-whose-name-is-longer-than-its-column"
BOLD, RED, YELLOW, GREEN = ("\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[32m")


@contextmanager
def in_the_way(engine: Engine, lab: Lab, folder: Path) -> Iterator[tuple[tuple[str, ...], int]]:
    """The options that name a project, and its port that a process holds."""
    port, other = free_port(), free_port()
    lab.start("answering", port)
    services = {NAME: published(f"127.0.0.1:{port}:80"), "web": published(other)}
    with stack(engine, folder / "shop", services) as shop:
        yield shop.options, port


def test_preflight(engine: Engine, lab: Lab, tmp_path: Path, screen: Screen) -> None:
    with in_the_way(engine, lab, tmp_path) as (options, port):
        told = screen("preflight", *options)
        piped = ultra("preflight", *options).stdout
        refused = screen("preflight", "-v", *options)

    rows = plain(told)
    assert max(map(len, rows)) <= WIDTH, told
    assert max(map(len, plain(refused))) <= WIDTH, refused
    (row,) = [each for each in rows if f"127.0.0.1:{port}/tcp" in each and "conflict" not in each]
    assert row.split()[0].endswith("…")
    assert f"{YELLOW}held" in told
    assert f"{GREEN}free" in told
    assert f"{RED}conflict" in told
    assert f"{BOLD}ultra-ports resolve --compose" in told
    assert f"{BOLD}{YELLOW}held" in refused
    assert "\x1b" not in piped
    (line,) = [each for each in piped.splitlines() if each.startswith("conflict: ")]
    assert line.startswith(f"conflict: 127.0.0.1:{port}/tcp for {NAME} is held: process python ")
    assert NAME in piped.splitlines()[3]


def test_up(engine: Engine, lab: Lab, tmp_path: Path, screen: Screen) -> None:
    with in_the_way(engine, lab, tmp_path) as (options, port):
        told = screen("up", "-n", *options)
        piped = ultra("up", "-n", *options).stdout

    rows = plain(told)
    assert max(map(len, rows)) <= WIDTH, told
    assert f"{GREEN}would free" in told
    assert "would start: \x1b[1mdocker compose " in told
    assert f"127.0.0.1:{port}/tcp would free: end python " in piped
    assert "\x1b" not in piped
    (again,) = [each for each in piped.splitlines() if each.startswith("  to free it: ")]
    assert again.startswith("  to free it: ultra-ports up ")
    assert " -n" not in again
