"""What arguments for `docker compose up` mean, and how the kernel prints a listener."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from resolver.compose.preflight import host_limits
from resolver.compose.probe import listeners
from resolver.compose.up_arguments import UpArguments, parse
from resolver.errors import UsageError
from resolver.model import Container, Transport

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], UpArguments()),
        (["--build", "web", "db", "web"], UpArguments(("web", "db"))),
        (["-t", "5", "--pull=always", "--timeout", "3", "web"], UpArguments(("web",))),
        (["--scale", "web=3", "--scale=db=0"], UpArguments(scale=(("web", 3), ("db", 0)))),
        (["--remove-orphans", "--no-deps", "web"], UpArguments(("web",), (), True, True)),  # noqa: FBT003
    ],
)
def test_arguments_of_compose_up(arguments: list[str], expected: UpArguments) -> None:
    assert parse(arguments) == expected


@pytest.mark.parametrize("arguments", [["--no-start"], ["--dry-run"], ["--scale"], ["--scale=a"]])
def test_arguments_with_which_nothing_would_start(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        parse(arguments)


def test_a_process_of_another_container_is_not_looked_into() -> None:
    """A PID that an engine names may be another process's here, as on a remote engine."""
    stranger = Container("0" * 64, "web", "", state="running", main_pid=os.getpid())
    assert listeners(stranger, 80, Transport.TCP) is None
    assert listeners(Container("0" * 64, "web", ""), 80, Transport.TCP) is None


def test_whose_engine_it_is(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert host_limits(f"unix://{path}").engine_uid == os.geteuid()
    assert host_limits("tcp://192.0.2.1:2375").engine_uid is None
