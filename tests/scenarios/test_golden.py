"""What the commands say of one small project, held word for word by golden files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import ultra
from tests.lab.golden import hold
from tests.lab.ports import free_port, is_served
from tests.lab.processes import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.cli import Run
    from tests.lab.processes import Lab

pytestmark = pytest.mark.slow

PROJECT = """\
project = "shop"
[services]
api = "127.0.0.1:{api}"
web = "127.0.0.1:{web}"
"""
SESSIONS = {
    "a_free_port": (
        "resolve --no-docker 8087",
        "resolve --no-docker --json 8087",
        "who --no-docker 8087",
        "who --no-docker --json 8087",
    ),
    "bad_input": (
        "resolve 65536",
        "resolve nothing-of-this-name",
        "resolve --grace soon 8087",
        "reserve",
        "apply no-such-plan.json",
        "wait --until soon 8087",
        "no-such-command",
    ),
    "freed": ("resolve --no-docker api", "resolve --no-docker api"),
    "freed_json": ("resolve --no-docker --json api",),
    "plan_and_apply": (
        "resolve --no-docker --plan-out plan.json api",
        "apply --no-docker plan.json",
        "apply --no-docker --json plan.json",
    ),
    "reservations": (
        "reserve web",
        "reserve web 3001",
        "reservations",
        "reservations --json",
        "who --no-docker web",
        "release --json web",
        "reservations",
    ),
    "assigned": (
        "assign --no-docker",
        "assign --no-docker --json",
        "env",
        "env --json",
        "config --json",
    ),
    "health": ("health --no-docker", "health --no-docker --json"),
    "wait": (
        "wait --no-docker --until held api",
        "wait --no-docker --json --until free web",
        "wait --no-docker --timeout 0 --until free api",
    ),
}
NAMES = ("8085", "3000", "3001", "8087")


@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_says_what_its_golden_file_says(
    name: str, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(
        "ULTRA_PORTS_TESTS_NPM", raising=False
    )  # `config` says that it is no setting
    shop = tmp_path / "shop"
    shop.mkdir()
    ports = dict(zip(NAMES, (free_port() for _ in NAMES), strict=True))
    (shop / "ultra-ports.toml").write_text(PROJECT.format(api=ports["8085"], web=ports["3000"]))
    server = (str(ports["8085"]), "--bind", "127.0.0.1")
    lab.command("/usr/bin/python3", "-m", "http.server", *server, cwd=shop)
    wait_until(lambda: is_served(ports["8085"]), "the server of api listens")
    names = {**{str(real): told for told, real in ports.items()}, str(tmp_path): "/srv"}

    def typed(line: str) -> Run:
        words = (str(ports[word]) if word in ports else word for word in line.split())
        return ultra(*words, cwd=shop)

    hold(name, [(f"ultra-ports {line}", typed(line)) for line in SESSIONS[name]], names)
