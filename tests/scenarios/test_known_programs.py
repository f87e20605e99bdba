"""Each row of the table of known programs: the real program or a stand-in (tests/lab/known.py).

All of them run at once, and one look at them is what every test here reads.
"""

from __future__ import annotations

import contextlib
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from resolver.collateral.databases import DATABASES
from resolver.collateral.known import KNOWN, Known
from tests.lab import known
from tests.lab.cli import ultra
from tests.lab.ports import free_port, is_free, is_served
from tests.lab.processes import Lab, wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping

    Start = Callable[[int, Path], known.Program]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.xdist_group("known programs"),  # they are started once
]
STARTERS = {**known.REAL, **known.STAND_INS}
# Rows that have the names of another one, by what their command lines have
SECOND = {
    "python -i": "cmdoption-i",
    "python torch": "elastic",
    "java RegistryImpl": "rmiregistry",
    "java idea": "jetbrains",
    "java jshell": "/jshell/",
}
# What is lost with these databases, however they are shut down
IN_MEMORY = {
    "Redis": ["what it keeps in memory alone"],
    "memcached": ["all its data, which is in memory alone"],
}


def row_of(case: str) -> Known:
    """The row that a case is for: by the first of its names."""
    first = case.partition(" ")[0]
    rows = [row for row in KNOWN if row.names.split()[0] == first]
    [row] = [row for row in rows if SECOND.get(case, "") in row.source]
    return row


def test_every_row_has_a_scenario() -> None:
    databases = {row.name for row in DATABASES}
    assert databases - known.ELSEWHERE.keys() == known.DATABASES.keys()
    covered = [row_of(case) for case in (*STARTERS, *known.ELSEWHERE) if case not in databases]
    assert {id(row) for row in covered} == {id(row) for row in KNOWN}
    assert len(covered) == len(KNOWN)
    tests = "".join(each.read_text() for each in Path(__file__).parent.glob("test_*.py"))
    assert all(f"def {name}(" in tests for name in known.ELSEWHERE.values())


def _serves(popen: subprocess.Popen[bytes], port: int, transport: str) -> bool:
    assert popen.poll() is None, popen.args
    return is_served(port) if transport == "tcp" else not is_free(port, transport)


def started(
    lab: Lab, starters: Mapping[str, Start], ports: Mapping[str, int], home: Path
) -> tuple[dict[str, known.Program], dict[str, subprocess.Popen[bytes]]]:
    """All of them, which serve now; a mosh-server waits for its client for a minute only."""
    programs = {}
    for number, (case, start) in enumerate(starters.items()):
        folder = home / str(number)
        folder.mkdir()
        programs[case] = start(ports[case], folder)  # which may compile or install it
    running = {case: known.run(lab, program) for case, program in programs.items()}
    for case, program in programs.items():
        serves = partial(_serves, running[case], ports[case], program.transport)
        wait_until(serves, f"{case} serves", 60)
    return programs, running


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """What is said of each: the report of its port. Nothing may be touched meanwhile."""
    home = tmp_path_factory.mktemp("known")
    ports = {case: free_port() for case in STARTERS}
    with Lab(home) as lab, contextlib.ExitStack() as connections:
        programs, running = started(lab, STARTERS, ports, home)
        for case, program in programs.items():
            connections.enter_context(known.connected(program, ports[case]))
        words = [f"{port}/{programs[case].transport}" for case, port in ports.items()]
        run = ultra("resolve", "--json", "--no-docker", "--grace", "2", *words)
        assert run.status == 3, run.stdout
        yield {case: run.port(word) for case, word in zip(ports, words, strict=True)}
        assert {case for case, popen in running.items() if popen.poll() is not None} == set()


@pytest.mark.parametrize("case", STARTERS)
def test_what_is_more_than_its_port_is_refused(found: dict[str, dict[str, Any]], case: str) -> None:
    row, report = row_of(case), found[case]

    assert report["verdict"] == "refused", report
    assert re.search("would also end: |somebody's work runs in it", report["reason"])
    losses = [loss for loss in report["holders"][0]["collateral"] if loss["kind"] == row.kind]
    assert any(row.text in loss["text"] for loss in losses), losses
    [loss] = [each for each in losses if row.text in each["text"]]
    assert loss["degree"] == "refused"
    binding = report["holders"][0]["binding"]
    places = {"port": binding["port"], "transport": binding["transport"], "host": "127.0.0.1"}
    places |= {"machine": "guest", "instance": "web1", "device": "http"}
    command = [word.format(**places) for word in row.command]
    assert loss["commands"][:1] == ([command] if command else [])


@pytest.mark.parametrize(
    ("options", "lost"),
    [
        (("--save", ""), "what it keeps in memory alone"),
        (("--save", "", "--set-proc-title", "no"), "all its data, which is in memory alone"),
        (("--appendonly", "yes"), ""),
    ],
    ids=["not known", "saves nothing", "saves"],
)
def test_what_redis_does_not_save_is_said(
    lab: Lab, tmp_path: Path, options: tuple[str, ...], lost: str
) -> None:
    port = free_port()
    started(lab, {"redis": known.redis_with(*options)}, {"redis": port}, tmp_path)

    run = ultra("who", "--no-docker", str(port))

    assert (f"goes down with it: {lost}" in run.stdout) == bool(lost), run.stdout
    assert "goes down with it: Redis" not in run.stdout
    freed = ultra("resolve", "--no-docker", "--settle", "0.3", str(port))
    assert freed.status == 0
    last = freed.stdout.splitlines()[-1]
    if "--set-proc-title" in options:
        assert re.match(r"  start it again: .*redis-server --port ", last), last
    else:
        assert last == "  start it again: not known, it rewrote its command line"


def test_a_database_ends_its_own_way(lab: Lab, tmp_path: Path) -> None:
    ports = {case: free_port() for case in known.DATABASES}
    _, running = started(lab, known.DATABASES, ports, tmp_path)

    run = ultra("resolve", "--json", "--no-docker", "--settle", "0.3", *map(str, ports.values()))

    assert run.status == 0, run.stdout
    for case, port in ports.items():
        holders = run.port(f"{port}/tcp")["holders"]
        losses = [loss for loss in holders[0]["collateral"] if loss["kind"] == "data"]
        assert [loss["text"] for loss in losses] == [case, *IN_MEMORY.get(case, ())]
        assert {loss["degree"] for loss in losses} == {"mentioned"}
        actions = [each for holder in holders for each in holder["outcome"]["actions"]]
        assert all(each.startswith("SIGTERM to ") for each in actions), actions
        running[case].wait(60)
