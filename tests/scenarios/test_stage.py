"""The script that makes the stage of today: what it says where it cannot, and how it is written.

What runs in the stage is in tests/today.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.lab.processes import unavailable

ROOT = Path(__file__).parents[2]
SCRIPTS = (".ci/run", "tests/run", "tests/today/run", "tests/today/make", "tests/today/enter")


def run(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )


@pytest.mark.root
@pytest.mark.parametrize(("ci", "status"), [("true", 1), ("", 0)])
def test_where_it_cannot_be_made_ci_fails_and_a_laptop_says_so_in_one_line(
    as_nobody: tuple[str, ...], ci: str, status: int
) -> None:
    done = run(*as_nobody, "tests/run", "--stage", "today", CI=ci)

    assert done.returncode == status
    assert done.stderr == "tests/run: the stage of today was not run: it needs root\n"


def test_a_stage_that_there_is_not() -> None:
    done = run("tests/run", "--stage", "tomorrow")

    assert (done.returncode, done.stderr) == (2, "tests/run: there is one stage: --stage today\n")


def test_shellcheck_is_content_with_what_runs_the_tests() -> None:
    if shutil.which("shellcheck") is None:
        unavailable("shellcheck is missing")

    done = run("shellcheck", *SCRIPTS)

    assert (done.returncode, done.stdout) == (0, "")


def test_what_the_table_of_what_is_supported_names_is_run() -> None:
    entered = (ROOT / "tests/today/enter").read_text(encoding="utf-8")
    rows = (ROOT / "docs/supported.md").read_text(encoding="utf-8").splitlines()
    cells = [row.split(" | ") for row in rows if row.startswith("| ")]
    assert len(cells) > 10

    for _, main, today in cells:
        for name in re.findall(r"`(?:units/)?(test_\w+)`", main):
            assert [*ROOT.glob(f"tests/*/{name}.py")], name
        for folder, name in re.findall(r"`(today/)?test_(\w+)`", today):
            assert folder or re.search(rf"\b{name}\b", entered), name
