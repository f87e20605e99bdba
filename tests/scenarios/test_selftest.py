"""`ultra-ports selftest`: what it proves, and that it would say so if it were not so."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import ultra
from tests.lab.processes import unavailable

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.processes import Lab

CHECKS = ["distinct", "plain", "again", "server", "ephemeral", "killed"]


def test_every_promise_is_proved(lab: Lab) -> None:
    run = ultra("selftest", "--json", env=lab.marked())

    assert run.status == run.json["exit_status"] == 0, run.stdout
    assert run.json["schema"] == "ultra-ports.selftest/1"
    assert {check["name"]: check["passed"] for check in run.json["checks"]} == dict.fromkeys(
        CHECKS, True
    )
    assert run.json["checks"][0]["found"] == "64 of 64 got one, 64 different"
    assert set(run.json["surroundings"]) == {"kernel", "sockets", "engine", "compose", "state"}
    assert lab.processes() == []  # nobody is left


def test_in_words() -> None:
    run = ultra("selftest")

    assert (run.status, run.stderr) == (0, "")
    assert [line.split()[0] for line in run.stdout.splitlines()[:12:2]] == ["ok"] * len(CHECKS)
    assert "for comparison: to bind a port and let it go again" in run.stdout


def test_what_cannot_be_found_out_is_not_promised() -> None:
    if os.geteuid() != 0:
        unavailable("a network namespace needs root")
    run = ultra("selftest", "--json", prefix=("unshare", "--net"))  # where nothing is connected

    passed = {check["name"]: check["passed"] for check in run.json["checks"]}
    assert run.status == 1
    assert passed == {**dict.fromkeys(CHECKS, True), "ephemeral": None}


def test_it_makes_nothing(tmp_path: Path) -> None:
    state = tmp_path / "state"
    run = ultra("selftest", "--json", env={"ULTRA_PORTS_STATE": str(state)})

    assert run.json["surroundings"]["state"] == f"{state} can be written"
    assert not state.exists()


OTHER_HOLD = """
from resolver.reservations.holding import selftest
from resolver.reservations.holding.endpoint import bound, explained
from resolver.reservations.holding.hold import Hold

def take(request, **_):
    try:
        return Hold(request, *{sockets})
    except OSError as error:
        raise explained(request, error)

selftest.Hold.take = staticmethod(take)
for check in selftest.checks():
    print(check.name, check.passed)
"""


@pytest.mark.parametrize(
    ("sockets", "failing"),
    [
        ("[bound(request, reuse=True)]", {"distinct", "again"}),
        ("[bound(request)]", {"server"}),
        ("[]", {"distinct", "plain", "again", "ephemeral", "killed"}),
    ],
    ids=["shared", "not flipped", "none"],
)
def test_another_kind_of_hold_would_fail(sockets: str, failing: set[str]) -> None:
    script = OTHER_HOLD.format(sockets=sockets)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )

    passed = dict(line.split() for line in done.stdout.splitlines())
    assert set(passed) == set(CHECKS)
    assert {name for name, said in passed.items() if said != "True"} == failing
