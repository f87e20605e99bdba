"""Golden files: what the command says in every scenario, kept, so that a change of it is seen.

`ULTRA_PORTS_GOLDEN=record` writes what each run of `ultra` in a test gave back to
`tests/golden/MODULE.txt`; `ULTRA_PORTS_GOLDEN=compare` fails a test whose runs give back anything
else. Without the variable nothing happens. What differs between two runs of the same code has a
name instead (`normalise.py`): `P1` is the first port of the test.

Kept are the runs of the native way that the test makes itself: not those of its fixtures, of its
other threads, nor those that it waits with, since how many there are depends on the machine.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import json
import os
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import ports
from tests.lab.normalise import ROOT, Normaliser

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

VARIABLE = "ULTRA_PORTS_GOLDEN"
GOLDEN = ROOT / "tests" / "golden"
SCENARIOS = ROOT / "tests" / "scenarios"
# A module, or `MODULE::TEST` without its parameters, and why it is not kept.
LEFT_OUT = {
    "test_assign::test_two_worktrees_get_different_lasting_ports": "sorted by ports of the pool",
    "test_assign::test_sixteen_projects_at_once_get_ports_of_their_own": "sorted by them too",
    "test_command_line::test_who_without_a_port_lists_every_held_one": "whatever runs here",
    "test_command_line_streams::test_a_free_port_loads_nothing_heavy": "Python says what it loads",
    "test_runner::test_one_engine_by_two_paths_stops_a_container_once": "it is restarting, or not",
    "test_supervision_monit": "monit knows the program, or has just read its PID file",
}
_WIDTH = 100
_HEADING = "=== "
_PROGRESS = re.compile(r" +(?:Container|Network|Volume) ")  # compose's own, in any order


class Recorder:
    """Takes down what the runs of one test gave back, in the thread that makes it."""

    running: Recorder | None = None  # one test runs at a time

    def __init__(self, item: pytest.Item) -> None:
        self._normalised = Normaliser(item)
        self._thread = threading.get_ident()
        self.lines: list[str] = []

    def add(self, arguments: Sequence[str], status: int, stdout: str, stderr: str) -> None:
        """Adds a run."""
        if threading.get_ident() == self._thread:
            told = "\n".join(_told(arguments, status, stdout, stderr))
            told = told.encode(errors="backslashreplace").decode()  # what is no text
            self.lines += self._normalised(told).split("\n")


def note(
    arguments: Sequence[str], env: Mapping[str, str], status: int, stdout: str, stderr: str
) -> None:
    """Takes down one run of the command; nothing where nobody records."""
    way = {**os.environ, **env}.get("ULTRA_PORTS_GATHER")
    if Recorder.running is not None and way != "psutil":
        Recorder.running.add(arguments, status, stdout, stderr)


@contextlib.contextmanager
def unrecorded() -> Iterator[None]:
    """Runs in here are not taken down."""
    running, Recorder.running = Recorder.running, None
    try:
        yield
    finally:
        Recorder.running = running


@contextlib.contextmanager
def watching(item: pytest.Item) -> Iterator[None]:
    """Records or compares what the runs of the test give back, as the variable says."""
    mode = os.environ.get(VARIABLE)
    if not mode or _left_out(item):
        yield
        return
    Recorder.running = recorder = Recorder(item)
    try:
        yield
    finally:
        Recorder.running = None
        ports.ISSUED.clear()
    path, name = GOLDEN / f"{item.path.stem}.txt", _name_of(item)
    if mode == "record":
        _store(path, name, recorder.lines)
        return
    kept = _load(path.read_text("utf-8") if path.exists() else "").get(name, [])
    if kept != recorder.lines:
        diff = difflib.unified_diff(kept, recorder.lines, str(path), "now", name, "", lineterm="")
        pytest.fail("\n".join(diff), pytrace=False)


def _left_out(item: pytest.Item) -> bool:
    name = f"{item.path.stem}::{getattr(item, 'originalname', item.name)}"
    return item.path.parent != SCENARIOS or item.path.stem in LEFT_OUT or name in LEFT_OUT


def _name_of(item: pytest.Item) -> str:
    """The test with its parameters, without that of the way, which may go one day."""
    name, bracket, parameters = item.name.partition("[")
    parts = [part for part in parameters.removesuffix("]").split("-") if part != "native"]
    return f"{name}[{'-'.join(parts)}]" if bracket and parts else name


def _load(text: str) -> dict[str, list[str]]:
    """The lines of every test in a golden file."""
    tests: dict[str, list[str]] = {}
    name = ""
    for line in text.split("\n")[:-1]:
        if line.startswith(_HEADING):
            name = line.removeprefix(_HEADING)
            tests[name] = []
        else:
            tests[name].append(line)
    return tests


def _store(path: Path, name: str, lines: list[str]) -> None:
    """Puts one test's lines into the file that all workers write to."""
    path.parent.mkdir(exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        tests = _load(file.read())
        tests.pop(name, None)
        if lines:
            tests[name] = lines
        file.truncate(0)
        for each in sorted(tests):
            file.write("\n".join([_HEADING + each, *tests[each], ""]))


def _told(arguments: Sequence[str], status: int, stdout: str, stderr: str) -> Iterator[str]:
    yield f"$ {' '.join(arguments)}"
    try:
        yield from _document(json.loads(stdout), "")
    except ValueError:
        yield from stdout.splitlines()
    yield from (f"! {line}" for line in stderr.splitlines() if not _PROGRESS.match(line))
    yield f"-> {status}"


def _document(value: Any, indent: str) -> Iterator[str]:  # noqa: ANN401 - any JSON
    """JSON with as few lines as it takes."""
    whole = json.dumps(value, ensure_ascii=False)
    if len(indent + whole) <= _WIDTH or not isinstance(value, dict | list):
        yield indent + whole
        return
    begin, end = "{}" if isinstance(value, dict) else "[]"
    yield indent + begin
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        lines = list(_document(part, indent + " "))
        if isinstance(value, dict):
            lines[0] = f"{indent} {json.dumps(key)}: {lines[0].lstrip()}"
        yield from lines
    yield indent + end
