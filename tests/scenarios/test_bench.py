"""The benchmark works, and what it counts holds. Nothing here depends on time."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.bench.__main__ import CASES, write
from tests.bench.rows import as_markdown, as_text, compared, counted
from tests.lab.processes import ROOT, unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def bench(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """`python -m tests.bench --short WORDS`; nothing that it starts is measured for coverage."""
    return subprocess.run(
        [sys.executable, "-m", "tests.bench", "--short", *words],
        cwd=ROOT,
        env={name: text for name, text in os.environ.items() if "COVERAGE_" not in name},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )


def cells(table: str) -> list[list[str]]:
    """The cells of each row of a Markdown table, without its head."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


def measured(tmp_path: Path, cases: Sequence[str]) -> list[list[str]]:
    """The rows of some cases, each of which could be measured."""
    file = tmp_path / "table.md"
    done = bench(*cases, "--markdown", file)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = cells(file.read_text(encoding="utf-8"))
    assert not [row for row in rows if row[2].startswith("not measured") and row[3] == "-"]
    return rows


def judged(rows: list[list[str]]) -> list[tuple[str, str, str]]:
    """(ratio, target, met) of the rows that were judged."""
    return [(row[3], row[5], row[6]) for row in rows if row[6] != "-"]


def test_the_cases_without_an_engine_can_be_measured(tmp_path: Path) -> None:
    rows = measured(tmp_path, ["free", "many", "listeners", "reserve"])
    assert {row[0] for row in rows} == {"free", "many", "listeners", "reserve"}
    assert judged(rows) == [("0", "≤ 0", "yes")]  # lost reservations


def test_completion_and_the_hook_can_be_measured(tmp_path: Path) -> None:
    rows = measured(tmp_path, ["completion", "hook"])
    assert {row[0] for row in rows} == {"completion", "hook"}
    assert {row[2] for row in rows} == {'python -c "import typer"', "0.15 s", "0.3 s"}
    assert judged(rows) == []


def test_a_wedged_engine_can_be_measured(tmp_path: Path) -> None:
    rows = measured(tmp_path, ["wedged"])
    assert len(rows) == 3
    assert judged(rows) == []


@pytest.mark.root
@pytest.mark.xdist_group("crowd")
def test_the_crowd_can_be_measured(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        unavailable("a cgroup needs root")
    rows = measured(tmp_path, ["crowd"])
    assert {row[0] for row in rows} == {"crowd, own cgroup", "crowd, no cgroup", "crowd, memory"}


@pytest.mark.engine
@pytest.mark.usefixtures("local_engine")
def test_a_published_port_can_be_measured(tmp_path: Path) -> None:
    [row] = measured(tmp_path, ["published"])
    assert row[2] == 'python -c "import typer, msgspec, psutil, tabulate, docker"'
    assert row[5:7] == ["≤ 1.4", "-"]


def test_what_takes_lazy_imports_is_measured_where_there_are_any(tmp_path: Path) -> None:
    file = tmp_path / "table.md"
    assert bench("lazy", "--markdown", file).returncode == 0
    [row] = cells(file.read_text(encoding="utf-8"))
    assert row[2].startswith("not measured") is not hasattr(sys, "set_lazy_imports")


@pytest.mark.engine
@pytest.mark.usefixtures("local_engine")
def test_the_engine_is_asked_three_times_at_most(tmp_path: Path) -> None:
    counts, times = measured(tmp_path, ["containers"])
    assert counts[0] == "containers"
    assert 1 <= int(counts[3]) <= 3
    assert counts[6] == "yes"
    assert times[6] == "-"


def test_an_unknown_case_is_refused() -> None:
    done = bench("nonsense")
    assert done.returncode == 2
    assert all(case in done.stderr for case in CASES)


def test_a_ratio_is_that_of_the_runs_side_by_side() -> None:
    row = compared(("case", "a", "b"), [2.0, 30.0, 4.0], [1.0, 10.0, 4.0], 2.0)
    assert (row.value, row.spread, row.met) == ("2.00", "1.50 to 2.50", True)
    assert compared(("case", "a", "b"), [3.0], [1.0], 2.0).met is False
    assert compared(("case", "a", "b"), [3.0], [1.0], None).met is None


def test_a_count_is_judged() -> None:
    assert counted("case", "what", 3, 3).met is True
    assert counted("case", "what", 4, 3).met is False


def test_a_table_goes_between_its_marks(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text("before\n<!-- measured -->\nold\n<!-- /measured -->\nafter\n")
    table = as_markdown([counted("case", "a | b", 0, 0)])
    write(file, table)
    expected = f"before\n<!-- measured -->\n{table}\n<!-- /measured -->\nafter\n"
    assert file.read_text(encoding="utf-8") == expected
    assert "a \\| b" in table
    assert "yes" in as_text([counted("case", "a | b", 0, 0)])
