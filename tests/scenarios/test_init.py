"""`ultra-ports init`, and `health` where there is a compose file and no project file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import ultra
from tests.lab.namespaces import network_namespace
from tests.lab.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.processes import Lab

COMPOSE = """
services:
  web:
    image: x
    ports: ["{web}:80", "127.0.0.1:{debug}:9229"]
  dns: {{image: x, ports: ["{dns}:53/udp"]}}
  many: {{image: x, ports: ["8000-8010:80", "80"]}}
"""


@pytest.fixture
def shop(tmp_path: Path) -> dict[str, int]:
    """A folder with a compose file, and the ports in it."""
    ports = {name: free_port() for name in ("web", "debug", "dns")}
    (tmp_path / "compose.yml").write_text(COMPOSE.format(**ports))
    (tmp_path / ".git").mkdir()
    return ports


@pytest.mark.engine
def test_from_the_compose_file(shop: dict[str, int], tmp_path: Path) -> None:
    shown = ultra("init", "-n", cwd=tmp_path)
    assert not (tmp_path / "ultra-ports.toml").exists()
    made = ultra("init", "--json", cwd=tmp_path)

    assert (shown.status, made.status) == (0, 0), made.stderr
    text = (tmp_path / "ultra-ports.toml").read_text()
    assert text == shown.stdout
    assert text.splitlines()[1:] == [
        "[services]",
        f'dns = {{ port = {shop["dns"]}, protocol = "udp" }}',
        f"web = {shop['web']}",
        f'web-{shop["debug"]} = {{ port = {shop["debug"]}, address = "127.0.0.1" }}',
    ]
    names = [each["name"] for each in made.json["services"]]
    assert names == ["dns", "web", f"web-{shop['debug']}"]
    assert ultra("env", "web", cwd=tmp_path).stdout == f"{shop['web']}\n"
    again = ultra("init", cwd=tmp_path)
    assert (again.status, again.stdout) == (2, "")
    assert f"there is a project file already: {tmp_path}/ultra-ports.toml" in again.stderr
    assert (tmp_path / "ultra-ports.toml").read_text() == text


@pytest.mark.root
def test_from_what_listens_now(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    with network_namespace(lab) as prefix:
        inside = ("/usr/bin/nsenter", f"--net=/run/netns/{prefix[-1]}")
        nothing = ultra("init", cwd=tmp_path, prefix=inside)
        lab.start("answering", 7001, prefix=(*inside, "env", "-C", "/"))
        lab.start(
            "answering", 7002, "--name", "my api", prefix=(*inside, "env", "-C", str(tmp_path))
        )
        made = ultra("init", cwd=tmp_path, prefix=inside)

    assert (nothing.status, nothing.stdout) == (2, "")
    assert "nothing to make a project file of" in nothing.stderr
    assert made.status == 0, made.stderr
    assert (tmp_path / "ultra-ports.toml").read_text().splitlines()[1:] == [
        "[services]",
        "my-api = 7002",
    ]


@pytest.mark.engine
def test_health_takes_the_services_of_the_compose_file(
    lab: Lab, shop: dict[str, int], tmp_path: Path
) -> None:
    lab.start("answering", shop["web"], prefix=("env", "-C", str(tmp_path)))

    run = ultra("health", "--json", cwd=tmp_path)

    assert run.status == 1
    found = {each["service"]: each["healthy"] for each in run.json["services"]}
    assert found == {"dns": False, "web": True, f"web-{shop['debug']}": False}
    assert ultra("health", "web", cwd=tmp_path).status == 0
    assert ultra("wait", "web", "--", "true", cwd=tmp_path).status == 0
    assert ultra("health", "dns", cwd=tmp_path).status == 1
    (tmp_path / "compose.yml").unlink()
    missing = ultra("health", cwd=tmp_path)
    assert (missing.status, missing.stdout) == (2, "")
    assert "no project file and no compose file" in missing.stderr
