"""The ledger in a directory that users share: its two copies, many processes, kills and damage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from resolver.errors import StoreError
from resolver.host import own_files
from resolver.leases.state import COPIES
from resolver.leases.stores import shared
from resolver.leases.stores.ledger import Ledger
from tests.lab.processes import PACKAGES
from tests.units.test_leases_ledger import HERE, claim, garbage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The first copy."""
    return tmp_path / COPIES[0]


def newer(path: Path) -> Path:
    return max((path.with_name(name) for name in COPIES), key=lambda each: each.stat().st_mtime_ns)


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
