"""Ports by the names of services, on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.ports import free_port
from tests.lab.processes import stays_free
from tests.lab.shells import BIN, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.cli import Run
    from tests.lab.processes import Lab

QUICK = ("--settle", "0.3", "--grace", "2")


def ultra(folder: Path, *arguments: str, **variables: str) -> Run:
    """`ultra-ports ARGUMENTS` in the folder."""
    return run(str(BIN / "ultra-ports"), *arguments, cwd=folder, env=variables)


@pytest.fixture
def shop(tmp_path: Path) -> tuple[Path, dict[str, int]]:
    """A project with three services, and their ports."""
    ports = {name: free_port() for name in ("api", "frontend", "redis")}
    lines = [f"{name} = {port}" for name, port in ports.items()]
    (tmp_path / "ultra-ports.toml").write_text("\n".join(("[services]", *lines)))
    return tmp_path, ports


def test_services_are_freed_by_their_names(lab: Lab, shop: tuple[Path, dict[str, int]]) -> None:
    folder, ports = shop
    servers = {name: lab.start("answering", port) for name, port in ports.items()}

    done = ultra(folder, "resolve", "api", "frontend", "--json", *QUICK)

    assert done.status == 0, done.stderr
    entries = done.json["ports"]
    assert [(entry["label"], entry["services"]) for entry in entries] == [
        (f"{ports['api']}/tcp", ["api"]),
        (f"{ports['frontend']}/tcp", ["frontend"]),
    ]
    assert stays_free(ports["api"], 1)
    assert [name for name, server in servers.items() if server.alive] == ["redis"]


def test_all_of_them(lab: Lab, shop: tuple[Path, dict[str, int]]) -> None:
    folder, ports = shop
    servers = [lab.start("answering", port) for port in ports.values()]

    done = ultra(folder, "resolve", "--all", *QUICK)

    assert done.status == 0, done.stderr
    for name, port in ports.items():
        assert f"{port}/tcp ({name}) freed" in done.stdout
    assert not any(server.alive for server in servers)


def test_who_names_them_from_below_the_project(lab: Lab, shop: tuple[Path, dict[str, int]]) -> None:
    folder, ports = shop
    (folder / "src").mkdir()
    server = lab.start("answering", ports["api"])

    done = ultra(folder / "src", "who", f"redis,{ports['api']}", "api")

    assert done.status == 0
    assert f"{ports['api']}/tcp (api) held" in done.stdout
    assert f"{ports['redis']}/tcp (redis)" in done.stdout
    assert server.alive


@pytest.mark.parametrize("command", ["who", "resolve"])
def test_the_environment_decides_and_what_it_cannot_is_said(
    shop: tuple[Path, dict[str, int]], command: str
) -> None:
    folder, ports = shop
    other = free_port()
    variables = {"API_PORT": str(other), "REDIS_PORT": "tcp://10.0.0.3:6379"}

    done = ultra(folder, command, "api", "redis", **variables)

    assert f"{other}/tcp (api) free" in done.stdout
    assert f"{ports['redis']}/tcp (redis) free" in done.stdout
    assert done.stderr == (
        "ultra-ports: REDIS_PORT in the environment is 'tcp://10.0.0.3:6379', "
        "an address of a linked service: left out\n"
    )
    assert ultra(folder, command, "api", **variables).stderr == ""


def test_one_port_under_two_names_is_freed_and_said(
    lab: Lab, shop: tuple[Path, dict[str, int]]
) -> None:
    folder, ports = shop
    lab.start("answering", ports["api"])

    done = ultra(folder, "resolve", "api", "redis", *QUICK, REDIS_PORT=str(ports["api"]))

    assert done.status == 0
    assert f"{ports['api']}/tcp (api, redis) freed" in done.stdout
    assert done.stderr == f"ultra-ports: api and redis have one port: {ports['api']}/tcp\n"


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        (
            "services.api = 1",
            ("resolve", "web"),
            "expected a PORT or the name of a service; in ultra-ports.toml these are: api",
        ),
        ("services.api = 0", ("resolve", "api"), "services.api: expected `int` >= 1"),
        ("services =", ("who", "api"), "is not TOML"),
        ("", ("resolve", "--all"), "names no service"),
        ("services.api = 1", ("env", "web"), "'web'"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_touched(
    tmp_path: Path, text: str, arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "ultra-ports.toml").write_text(text)

    done = ultra(tmp_path, *arguments)

    assert (done.status, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_a_broken_project_is_no_reason_to_refuse_a_number(tmp_path: Path) -> None:
    (tmp_path / "ultra-ports.toml").write_text("services =")
    port = free_port()

    done = ultra(tmp_path, "resolve", str(port), API_PORT="nonsense")

    assert (done.status, done.stderr) == (0, "")
    assert done.stdout == f"{port}/tcp free: checked by binding it\n"


def test_nothing_is_ended_on_a_name_that_nobody_gave_a_port(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "compose.yml").write_text("services: {web: {image: x, ports: ['1:1']}}")
    for words in (
        ("resolve", "redis"),
        ("resolve", "-n", "redis"),
        ("resolve", "--compose", "redis"),
    ):
        done = ultra(tmp_path, *words)

        assert (done.status, done.stdout) == (2, ""), words
        assert "REDIS_PORT" in done.stderr
        assert done.stderr.endswith("type the port, such as 6379\n")
    port = free_port()
    assert ultra(tmp_path, "who", "redis").status == 0, "to look harms nobody"
    assert ultra(tmp_path, "resolve", "redis", REDIS_PORT=str(port)).status == 0
    (tmp_path / ".env").write_text(f"REDIS_PORT={port}\n")
    assert f"{port}/tcp (redis) free" in ultra(tmp_path, "resolve", "redis").stdout


def test_all_without_a_project_file_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()

    done = ultra(tmp_path, "resolve", "--all")

    assert done.status == 2
    assert "--all needs a project file" in done.stderr
