"""Two hundred checkouts of one repository ask for their ports at once; some of them die of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from dotenv import dotenv_values

from tests.lab.cli import ultra
from tests.lab.ports import free_range
from tests.lab.processes import PACKAGES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.checkouts import Checkouts

CHECKOUTS, KILLS = 200, 40


@pytest.fixture
def places(checkouts: Checkouts) -> list[Path]:
    """Worktrees that all prefer the same port, with a pool that is just large enough."""
    first = free_range(CHECKOUTS)
    (checkouts.main / "ultra-ports.toml").write_text(
        f'project = "shop"\npool = "{first}-{first + CHECKOUTS - 1}"\nenv_files = [".env"]\n'
        f"[services]\napi = {first}\n",
        encoding="utf-8",
    )
    checkouts.commit()
    made = [checkouts.main.parent / f"w{number}" for number in range(CHECKOUTS)]
    script = 'for place; do git worktree add -q --detach "$place" || exit; done'
    argv = ["/bin/sh", "-c", script, "sh", *map(str, made)]
    subprocess.run(argv, cwd=checkouts.main, check=True, capture_output=True)
    return made


@pytest.mark.slow
@pytest.mark.xdist_group("crowd")
def test_no_port_is_given_twice_and_no_lease_is_lost(places: list[Path]) -> None:
    argv = [sys.executable, "-S", "-m", "tests.lab.checkout_race", f"--kills={KILLS}"]
    done = subprocess.run(
        [*argv, *map(str, places)],
        env={**os.environ, "PYTHONPATH": PACKAGES},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)

    assert result["failed"] == []
    assert result["killed"] > KILLS / 4  # a fast machine is done before the last of them
    found = ultra("reservations", "--json", cwd=places[0]).json["reservations"]
    leased = {each["place"]: each["port"] for each in found}
    assert len(found) == len(set(leased.values())) == CHECKOUTS
    for place in places:
        told = result["told"][str(place)]
        assert told, place
        assert set(told) == {leased[str(place)]}, "what was told once was given to another"
        assert dotenv_values(place / ".env")["API_PORT"] == str(told[-1])
