"""`.env.example`: what the repository has is what the command prints, and nothing is missing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.project import example, file
from resolver.project.load import STANDARD, load
from resolver.project.variables import parse
from resolver.settings import LEASES_VARIABLE
from tests.lab.cli import ultra

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[2]
COMMITTED = (ROOT / ".env.example").read_text(encoding="utf-8")


def test_the_repositorys_is_what_the_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for variables in ({}, {"API_PORT": "1", "ULTRA_PORTS_ENV": "x"}):
        run = ultra("env", "--example", env=variables)
        assert (run.status, run.stdout, run.stderr) == (0, COMMITTED, "")


def test_every_variable_of_the_package_is_documented() -> None:
    read: set[str] = set()
    for path in (ROOT / "resolver").rglob("*.py"):
        read |= set(re.findall(r"\bULTRA_PORTS_[A-Z_]*[A-Z]\b", path.read_text(encoding="utf-8")))
    documented = set(re.findall(r"^#(ULTRA_PORTS_[A-Z_]+)=", COMMITTED, re.MULTILINE))
    assert documented == read - {LEASES_VARIABLE}, "but for what `run` sets itself"


def test_it_sets_the_standard_ports_and_nothing_else() -> None:
    wanted = {f"{name.upper()}_PORT": str(port) for name, port in STANDARD.items()}
    assert parse(COMMITTED, {}) == wanted


def test_it_has_what_the_project_file_says(tmp_path: Path) -> None:
    (tmp_path / "ultra-ports.toml").write_text(
        """
        [services]
        api = { port = 8085, health = "/healthz" }
        dns = { port = 53, protocol = "udp", variable = "RESOLVER" }
        job = { port = 9000, health = ["check", "it\\nnow"] }
        [environments]
        test = { api = 18085 }
        stage = { api = 28085, dns = 54 }
        """
    )
    (tmp_path / ".env").write_text("API_PORT=1")
    contents, _ = file.find(tmp_path)
    text = example.example(contents)
    assert (
        "# api: 8085/tcp, health: http /healthz, stage: 28085, test: 18085\nAPI_PORT=8085" in text
    )
    assert "# dns: 53/udp, stage: 54\nRESOLVER=53" in text
    assert "health: ['check', 'it\\nnow']" in text
    assert parse(text, {}) == {"API_PORT": "8085", "RESOLVER": "53", "JOB_PORT": "9000"}


def test_a_copy_of_it_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    before = load(tmp_path, {}).services
    (tmp_path / ".env").write_text(COMMITTED)
    after = load(tmp_path, {}).services
    assert [each.request for each in after] == [each.request for each in before]
