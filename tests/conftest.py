"""Fixtures for every test: the lab of real processes, and the two ways of gathering."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.lab.cli import may_run
from tests.lab.processes import Lab, unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A busy machine is no reason for a property to fail.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")
NOBODY = 65534
# Without bytecode each of the thousands of commands here would compile the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ["PYTHONFAULTHANDLER"] = "1"  # where a command crashes, its stderr says in what
# Which tests' commands coverage measures: the first of each file, and some of the rest.
FIRST, SHARE = 3, 4
MEASURED: set[str] = set()
SEEN: set[str] = set()  # tests that ran here
# What takes seconds to make, and is made once: the tests that need it go to one worker.
SHARED = ("second_engine", "machine", "temporary", "lasting")
# Which sockets are on a port has two ways: these scenarios run on both.
BOTH_WAYS = {"local", "nobody_listens", "unprivileged"}

# Some CI agents, nohup and a shell's background jobs start with these ignored, and so would every
# program that a test starts: Ctrl-C and its like do here what they do on a terminal. What nohup is
# for stays: a handler that does nothing is this process's alone (execve(2)).
for number, disposition in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, lambda *_: None),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, disposition)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs the scenarios of `BOTH_WAYS` twice, but for what only the kernel's own way can see."""
    scenario = metafunc.module.__name__.rpartition(".test_")[2]
    if (
        scenario in BOTH_WAYS
        and "gather" not in metafunc.fixturenames
        and not metafunc.definition.get_closest_marker("native")
    ):
        metafunc.parametrize("way", ["native", "psutil"], indirect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Chooses whose commands are measured for coverage: to measure takes as long as they do.

    What needs one of the `SHARED` fixtures goes to one worker.
    """
    files: dict[Path, dict[str, None]] = {}
    for item in items:
        for shared in set(SHARED).intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group(shared))
        files.setdefault(item.path, {})[bare(item)] = None
    for names in files.values():
        MEASURED.update(list(names)[:FIRST], list(names)[FIRST::SHARE])


def bare(item: pytest.Item) -> str:
    """A test's name without its parameters and its group."""
    return item.nodeid.partition("[")[0].partition("@")[0]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Lets the tests of one `xdist_group` go to one worker.

    xdist 3.8 adds the group to `_nodeid`, where pytest 9.2 no longer looks.
    """
    for item in session.items:
        grouped = getattr(item, "_nodeid", item.nodeid)
        if grouped != item.nodeid:
            item._id = item.id.parse(grouped)  # noqa: SLF001


@pytest.fixture(autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How this test gathers: the switch that every command of it inherits.

    Of a test with parameters, the commands of the first set that runs here are measured. So what
    is reported is less than what is covered.
    """
    if getattr(request, "param", "native") == "psutil":
        monkeypatch.setenv("ULTRA_PORTS_GATHER", "psutil")
    name = bare(request.node)
    if name in SEEN or name not in MEASURED:
        for variable in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
            monkeypatch.delenv(variable, raising=False)
    SEEN.add(name)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Starts servers; reaps them and whatever they started, and fails where any stays."""
    with Lab(tmp_path) as lab:
        yield lab


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state directory of the test alone: nothing is read from, or left in, the user's own."""
    folder = tmp_path / "state"
    monkeypatch.setenv("ULTRA_PORTS_STATE", str(folder))
    return folder


@pytest.fixture(params=["native", "psutil"])
def gather(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment for each of the two ways of gathering: the kernel's own, and psutil's."""
    return {"ULTRA_PORTS_GATHER": "psutil"} if request.param == "psutil" else {}


@pytest.fixture
def as_nobody() -> tuple[str, ...]:
    """A command that runs another as the user nobody, without privileges; needs root.

    Its coverage is not measured, since it may not write the data file.
    """
    if os.geteuid() != 0:
        unavailable("becoming another user needs root")
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        unavailable("setpriv(1) is missing")
    unmeasured = ("env", "-u", "COVERAGE_PROCESS_START", "-u", "COVERAGE_PROCESS_CONFIG")
    prefix = (*unmeasured, setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    if not may_run(prefix):
        unavailable("nobody may not read this installation")
    return prefix
