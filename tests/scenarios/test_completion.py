"""Completion, as the shell of a user does it: typer's own, for a group that loads one command."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import COMMAND, ultra
from tests.lab.processes import unavailable

if TYPE_CHECKING:
    from tests.lab.cli import Run

BASH = shutil.which("bash") or "bash"
# typer asks what shell its parent is
IN_BASH = (BASH, "--norc", "-c", '"$@"; exit $?', "bash")
COMPLETES = """
PATH="$1:$PATH"
source "$2" || exit
shift 2
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_ultra_ports_completion ultra-ports
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written into the home of whoever runs the tests."""
    if not Path(BASH).is_absolute():
        unavailable("bash is missing")
    monkeypatch.setenv("HOME", str(tmp_path))


def completed(script: Path, *words: str) -> list[str]:
    """What bash would offer for the last of the words."""
    done = subprocess.run(
        [BASH, "--norc", "-c", COMPLETES, "bash", Path(COMMAND).parent, script, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


def shown() -> Run:
    """The script that is to be sourced."""
    return ultra("--show-completion", prefix=IN_BASH)


def test_the_script_completes_commands_and_their_options(tmp_path: Path) -> None:
    script = tmp_path / "completion.sh"
    run = shown()
    assert (run.status, run.stderr) == (0, "")
    script.write_text(run.stdout)

    assert completed(script, "ultra-ports", "res") == ["resolve", "reserve", "reservations"]
    assert completed(script, "ultra-ports", "resolve", "--set") == ["--settle"]
    assert completed(script, "ultra-ports", "shell-init", "--") == ["--help"]
    assert completed(script, "ultra-ports", "--") == ["--version", "--help"]
    assert completed(script, "ultra-ports", "nonsense", "") != []


def test_it_is_installed_in_the_home(tmp_path: Path) -> None:
    run = ultra("--install-completion", prefix=IN_BASH)

    assert (run.status, run.stderr) == (0, "")
    assert sorted(each.name for each in tmp_path.iterdir()) == [".bash_completions", ".bashrc"]
    assert completed(tmp_path / ".bashrc", "ultra-ports", "wat") == ["watch"]


def test_the_help_stays_short() -> None:
    assert "completion" not in ultra("-h").stdout
