"""Where a project file is looked for, and whose is left out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from resolver.errors import UsageError
from resolver.project.load import load
from tests.lab.processes import unavailable

if TYPE_CHECKING:
    from pathlib import Path

NOBODY, SOMEBODY = 65534, 12345
TEXT = "services.api = 8185"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """`top/middle/start`, with a project file in `top`, which is as far as the search goes."""
    start = tmp_path / "top" / "middle" / "start"
    start.mkdir(parents=True)
    (tmp_path / "top" / ".git").mkdir()
    (tmp_path / "top" / "ultra-ports.toml").write_text(TEXT)
    return start


@pytest.fixture
def root() -> None:
    if os.geteuid() != 0:
        unavailable("giving a file to another user needs root")


def port_of_api(start: Path) -> int:
    return load(start, {}).service("api").request.port


def test_a_file_above_is_found(tree: Path) -> None:
    assert port_of_api(tree) == 8185
    assert load(tree, {}).root == tree.parents[1]


def test_the_search_ends_at_the_repository(tree: Path) -> None:
    (tree.parent / ".git").mkdir()
    assert port_of_api(tree) == 8085
    assert load(tree, {}).root == tree.parent


def test_the_search_ends_at_home(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tree.parent))
    assert port_of_api(tree) == 8085


def test_a_file_above_where_everybody_may_write_is_left_out(tree: Path) -> None:
    tree.parents[1].chmod(0o1777)
    project = load(tree, {})
    assert project.service("api").request.port == 8085
    top = tree.parents[1]
    assert project.notes == (f"{top}/ultra-ports.toml is left out: everybody may write to {top}",)


@pytest.mark.root
@pytest.mark.usefixtures("root")
def test_a_strangers_file_above_is_left_out(tree: Path) -> None:
    os.chown(tree.parents[1] / "ultra-ports.toml", SOMEBODY, SOMEBODY)
    project = load(tree, {})
    assert project.service("api").request.port == 8085
    assert "it belongs to another user" in project.notes[0]


@pytest.mark.root
@pytest.mark.usefixtures("root")
def test_a_strangers_link_above_is_left_out(tree: Path) -> None:
    path = tree.parents[1] / "ultra-ports.toml"
    path.rename(path.with_name("other.toml"))
    path.symlink_to("other.toml")
    os.chown(path, SOMEBODY, SOMEBODY, follow_symlinks=False)
    assert port_of_api(tree) == 8085


@pytest.mark.root
@pytest.mark.usefixtures("root")
def test_a_strangers_env_file_above_is_left_out(tree: Path) -> None:
    env = tree.parents[1] / ".env"
    env.write_text("API_PORT=8285")
    assert port_of_api(tree) == 8285
    os.chown(env, SOMEBODY, SOMEBODY)
    assert port_of_api(tree) == 8185
    assert "it belongs to another user" in load(tree, {}).notes[0]


@pytest.mark.root
@pytest.mark.usefixtures("root")
def test_a_strangers_file_here_is_read_as_make_would(tree: Path) -> None:
    path = tree / "ultra-ports.toml"
    path.write_text("services.api = 8385")
    os.chown(path, SOMEBODY, SOMEBODY)
    assert port_of_api(tree) == 8385
    tree.chmod(0o1777)
    assert port_of_api(tree) == 8185


@pytest.mark.root
@pytest.mark.usefixtures("root")
def test_a_checkout_that_belongs_to_one_other_user_is_read(tree: Path) -> None:
    """A CI job that runs as root in a checkout that its runner made."""
    for path in (tree, tree.parents[1] / "ultra-ports.toml"):
        os.chown(path, SOMEBODY, SOMEBODY)
    assert port_of_api(tree) == 8185


@pytest.mark.root
@pytest.mark.usefixtures("root")
def test_what_the_caller_of_sudo_wrote_is_read(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(tree.parents[1] / "ultra-ports.toml", SOMEBODY, SOMEBODY)
    monkeypatch.setenv("SUDO_UID", str(SOMEBODY))
    assert port_of_api(tree) == 8185
    monkeypatch.setenv("SUDO_UID", str(NOBODY))
    assert port_of_api(tree) == 8085


@pytest.mark.parametrize("name", ["ultra-ports.toml", ".env"])
def test_a_pipe_is_no_file_to_wait_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(UsageError, match=f"{name} is no regular file"):
        load(tmp_path, {})


@pytest.mark.parametrize("name", ["ultra-ports.toml", "pyproject.toml"])
def test_what_is_no_text_is_bad_input(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=f"{name} is not UTF-8"):
        load(tmp_path, {})


@pytest.mark.parametrize("name", ["ultra-ports.toml", ".env", "pyproject.toml"])
def test_what_is_too_long_is_bad_input(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(UsageError, match=f"{name} is too long"):
        load(tmp_path, {})


def test_a_folder_in_its_place_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "ultra-ports.toml").mkdir()
    with pytest.raises(UsageError, match=r"ultra-ports\.toml is no regular file"):
        load(tmp_path, {})


def test_a_link_to_nowhere_is_no_file(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "ultra-ports.toml").symlink_to("nowhere")
    assert port_of_api(tmp_path) == 8085
