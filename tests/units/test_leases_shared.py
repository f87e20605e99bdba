"""The ledger in a directory that users share: its two copies, many processes, kills and damage."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from resolver.errors import StoreError
from resolver.host import own_files
from resolver.leases.state import COPIES
from resolver.leases.stores import shared
from resolver.leases.stores.ledger import Ledger
from tests.lab.processes import PACKAGES, wait_until
from tests.units.test_leases_ledger import FIRST, HERE, claim, leasing, lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The first copy."""
    return tmp_path / COPIES[0]


def newer(path: Path) -> Path:
    return max((path.with_name(name) for name in COPIES), key=lambda each: each.stat().st_mtime_ns)


def test_many_processes_get_ports_of_their_own_and_none_is_lost(path: Path) -> None:
    with leasing(path, 16, FIRST, 200, "keep", 10) as popen:
        lines(popen, 1)
        found = lines(popen, 16)
        leases = Ledger(path, HERE).leases()
    ports = [port for each in found for port in each["ports"]]
    assert [each["faults"] for each in found] == [[]] * 16
    assert len(set(ports)) == len(ports) == 160
    assert sorted(ports) == [lease.port for lease in leases]


@pytest.mark.slow
def test_processes_that_are_killed_at_random_break_nothing(path: Path) -> None:
    with leasing(path, 24, FIRST, 200, "churn", 100) as popen:
        pids = lines(popen, 1)[0]["pids"]
        wait_until(path.exists, "the ledger is made")
        killed = random.sample(pids, 12)
        for pid in killed:
            time.sleep(random.uniform(0, 0.08))  # noqa: S311 - a moment like any other
            os.kill(pid, 9)
        out, _ = popen.communicate(timeout=100)
    found = [json.loads(line) for line in out.splitlines()]
    assert {each["pid"] for each in found} >= set(pids) - set(killed)
    assert [each for each in found if each["faults"]] == []
    assert Ledger(path, HERE).leases() == ()


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_working_ledger(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-S", "-m", "tests.lab.dying", str(folder / COPIES[0])],
        env={**os.environ, "PYTHONPATH": PACKAGES},
        capture_output=True,
        text=True,
        check=True,
    )
    facts = json.loads(done.stdout)
    assert facts["faults"] == []
    assert facts["deaths"] > 40


@pytest.mark.parametrize("torn", [b"", b"garbage", None])
def test_a_torn_copy_leaves_the_other_one(path: Path, torn: bytes | None) -> None:
    ledger = Ledger(path, HERE)
    [kept] = ledger.acquire([claim()])
    ledger.acquire([claim(8086)])
    last = newer(path)
    last.write_bytes(last.read_bytes()[:-1] if torn is None else torn)
    assert Ledger(path, HERE).leases() == (kept,)


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(5000))


def no_database(path: Path) -> None:
    """A copy that is whole, of something else."""
    folder = own_files.folder(path.parent)
    with folder:
        shared._write(folder, path.name, 7, b"no database at all")  # noqa: SLF001


@pytest.mark.parametrize("damage", [garbage, no_database])
def test_damage_of_both_is_an_error_and_they_stay_as_they_are(
    path: Path, damage: Callable[[Path], None]
) -> None:
    ledger = Ledger(path, HERE)
    ledger.acquire([claim()])
    for name in COPIES:
        damage(path.with_name(name))
    before = [path.with_name(name).read_bytes() for name in COPIES]
    for work in (ledger.leases, ledger.prune, ledger.check):
        with pytest.raises(StoreError, match=r"leases\.1 is damaged"):
            work()
    assert [path.with_name(name).read_bytes() for name in COPIES] == before


def test_who_was_killed_while_the_first_copy_was_written_left_nothing(path: Path) -> None:
    Ledger(path, HERE).check()
    path.write_bytes(path.read_bytes()[:100])
    path.with_name(COPIES[1]).unlink(missing_ok=True)
    assert Ledger(path, HERE).leases() == ()
    assert len(Ledger(path, HERE).acquire([claim()])) == 1


def test_a_later_versions_ledger_is_left_alone(path: Path) -> None:
    with shared.SharedDatabase(path, 1.0).writing() as database:
        database.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    for work in (Ledger(path, HERE).check, Ledger(path, HERE).leases):
        with pytest.raises(StoreError, match="later version"):
            work()
    assert path.read_bytes() == before
