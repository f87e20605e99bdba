"""Where the state directory is, by the settings and the platform."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resolver import settings
from resolver.errors import UsageError
from resolver.host.own_files import folder
from resolver.leases.duration import seconds
from resolver.leases.state import state_directory
from resolver.leases.store import existing_store, open_store
from resolver.report.settings import hidden_password

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path("/srv/shop")
HOME = {"HOME": "/home/ann"}


def found(environ: Mapping[str, str], platform: str = "linux") -> str:
    return str(state_directory(environ, lambda: ROOT, platform).path)


@pytest.mark.parametrize(
    ("environ", "platform", "path"),
    [
        (HOME, "linux", "/home/ann/.local/state/ultra-ports"),
        (HOME, "darwin", "/home/ann/Library/Application Support/ultra-ports"),
        (HOME | {"XDG_STATE_HOME": "/var/x"}, "linux", "/var/x/ultra-ports"),
        (HOME | {"XDG_STATE_HOME": "relative"}, "linux", "/home/ann/.local/state/ultra-ports"),
        (HOME | {"XDG_STATE_HOME": "/var/x"}, "darwin",
         "/home/ann/Library/Application Support/ultra-ports"),
        (HOME | {"ULTRA_PORTS_STATE": "/var/lib/ports"}, "linux", "/var/lib/ports"),
        (HOME | {"ULTRA_PORTS_STATE": " "}, "linux", "/home/ann/.local/state/ultra-ports"),
        (HOME | {"ULTRA_PORTS_STATE": "state"}, "linux", "/srv/shop/state"),
        (HOME | {"ULTRA_PORTS_STATE": "../x/./y"}, "linux", "/srv/x/y"),
        (HOME | {"ULTRA_PORTS_STATE": "~/ports"}, "linux", "/home/ann/ports"),
        (HOME | {"ULTRA_PORTS_STATE": "~"}, "linux", "/home/ann"),
        (HOME | {"ULTRA_PORTS_STATE": "~root/ports"}, "linux", "/root/ports"),
        (HOME | {"ULTRA_PORTS_STATE": "$X/${Y}/z", "X": "/a", "Y": "b"}, "linux", "/a/b/z"),
        (HOME | {"ULTRA_PORTS_STATE": "/a/$X", "X": "$HOME"}, "linux", "/a/$HOME"),
    ],
)  # fmt: skip
def test_the_state_directory(environ: Mapping[str, str], platform: str, path: str) -> None:
    assert found(environ, platform) == path


@pytest.mark.parametrize("text", ["$MISSING/x", "/x/${MISSING}", "~nosuchuser/x", "/x\0y"])
def test_what_cannot_be_filled_in_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="ULTRA_PORTS_STATE"):
        found(HOME | {"ULTRA_PORTS_STATE": text})


def test_who_has_no_home_is_told_so() -> None:
    state = state_directory({"HOME": "/nonexistent"}, lambda: ROOT, "linux")
    assert "no home" in state.reason
    store = open_store({"HOME": "/nonexistent"}, ROOT)
    assert not store.lasting
    [warning] = store.warnings
    assert "no home" in warning
    assert existing_store({"HOME": "/nonexistent"}, ROOT) is None, "nothing was ever kept"


@pytest.mark.parametrize(
    ("mode", "shared"),
    [(0o700, 0o600), (0o755, 0o600), (0o1770, 0o660), (0o3775, 0o664), (0o1777, 0o666)],
)
def test_files_are_for_those_who_may_write_to_the_directory(
    tmp_path: Path, mode: int, shared: int
) -> None:
    tmp_path.chmod(mode)
    with folder(tmp_path) as found:
        os.close(found.open("file"))
    assert (tmp_path / "file").stat().st_mode & 0o777 == shared


@pytest.mark.parametrize(
    "address", ["postgres://u:secret@h/x", "secret", "redis:u:secret@h", "http://x"]
)
def test_an_address_of_no_store_is_a_usage_error(address: str) -> None:
    with pytest.raises(UsageError, match="ULTRA_PORTS_STORE") as caught:
        open_store({"ULTRA_PORTS_STORE": address}, ROOT)
    assert "u:secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "number"),
    [("90s", 90), ("10m", 600), ("8h", 28800), ("2d", 172800), ("1s", 1), ("366d", 31622400)],
)
def test_a_time_to_live(text: str, number: int) -> None:
    assert seconds(text) == number


@pytest.mark.parametrize(
    "text", ["", "8", "h", "0s", "-1h", "1.5h", "8 h", "8H", "367d", "99999999999d", "٨h", "8h2m"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError):
        seconds(text)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://ann:s@cret@h:6379/0", "redis://***@h:6379/0"),
        ("redis://:secret@h", "redis://***@h"),
        ("redis://h/0?password=secret", "redis://h/0"),
        ("redis:ann:secret@h", "***@h"),
    ],
)
def test_no_password_is_shown(address: str, shown: str) -> None:
    assert hidden_password(address) == shown


def test_every_variable_is_a_setting() -> None:
    """What the code reads from the environment is in `config`."""
    package = Path(settings.__file__).parent
    names = {
        name
        for file in package.rglob("*.py")
        for name in re.findall(r'"(ULTRA_PORTS_[A-Z_]*[A-Z])"', file.read_text(encoding="utf-8"))
    }
    assert names - {settings.LEASES_VARIABLE} == set(settings.SETTINGS), (
        "but for what `run` sets itself"
    )


def test_a_directory_that_is_made_at_the_same_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.mkdir

    def late(name: str, mode: int, *, dir_fd: int) -> None:
        for _ in range(2):  # somebody else comes first
            real(name, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", late)
    with folder(tmp_path / "a" / "state", make=True) as found:
        assert not found.shared
