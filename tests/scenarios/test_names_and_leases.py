"""One name, one port: whatever was assigned to a service is what every command means by it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import ultra
from tests.lab.ports import free_port, free_range
from tests.lab.processes import alive

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.processes import Lab


@pytest.fixture
def wished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """A project in the working directory, whose api wishes for this port."""
    port, first = free_port(), free_range(5)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("API_PORT", raising=False)
    text = f'project = "lab{port}"\npool = "{first}-{first + 4}"\n[services]\napi = {port}\n'
    (tmp_path / "ultra-ports.toml").write_text(text)
    return port


def meant(**environment: str) -> set[str]:
    """The port that each command means by the name."""
    env = {**os.environ, **environment}
    runs = [ultra(*words, env=env) for words in (("who", "--json", "api"), ("env", "api"))]
    dry = ultra("resolve", "-n", "--json", "api", env=env)
    told = [run.json["ports"][0]["request"]["port"] for run in (runs[0], dry)]
    return {runs[1].stdout.strip(), *map(str, told)}


def test_every_command_follows_an_assignment(lab: Lab, wished: int, tmp_path: Path) -> None:
    assert meant() == {str(wished)}
    neighbour = lab.start("answering", wished)
    assigned = ultra("assign", "api").stdout.partition("=")[2].split()[0]
    assert assigned != str(wished)
    assert meant() == {assigned}

    run = ultra("resolve", "--settle", "0.1", "api")

    assert run.status == 0, run.stdout + run.stderr
    assert alive(neighbour.pid), "whom assign stepped around is not ended by resolve"
    (tmp_path / ".env").write_text(f"API_PORT={wished}\n")
    assert meant() == {assigned}, "a lease goes before .env"
    assert meant(API_PORT="9001") == {"9001"}, "the environment goes before a lease"
    assert ultra("release", "api").status == 0
    assert meant() == {str(wished)}


def test_beside_a_compose_project_too(lab: Lab, wished: int, tmp_path: Path) -> None:
    (tmp_path / "compose.yml").write_text(
        f"services: {{web: {{image: x, ports: ['{free_port()}:80']}}}}"
    )
    neighbour = lab.start("answering", wished)
    assigned = int(ultra("assign", "api").stdout.partition("=")[2].split()[0])

    for words in (("api",), ("--all",)):
        run = ultra("resolve", "--compose", "--no-docker", "--settle", "0.1", "--json", *words)

        assert run.status == 0, run.stdout + run.stderr
        named = [each["request"]["port"] for each in run.json["ports"] if each["services"]]
        assert named == [assigned]
        assert alive(neighbour.pid), "whom assign stepped around is not ended by resolve"


def test_a_ledger_that_cannot_be_read_is_said_and_does_not_stop_anybody(
    wished: int, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "leases.db").mkdir()
    run = ultra("resolve", "-n", "api", env={"ULTRA_PORTS_STATE": str(state)})
    assert run.status == 0, run.stderr
    assert f"{wished}/tcp (api) free" in run.stdout
