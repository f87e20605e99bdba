"""Fixtures for tests in which files belong to different users."""

from __future__ import annotations

import os
import pwd
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.processes import unavailable
from tests.units.owned import NAMELESS, STRANGER

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def strangers() -> None:
    """Root, who can give files away; a stranger with a name, and one without."""
    if os.geteuid() != 0:
        unavailable("giving files to other users needs root")
    assert pwd.getpwuid(STRANGER).pw_name == "nobody"
    with pytest.raises(KeyError):
        pwd.getpwuid(NAMELESS)


@pytest.fixture
def folder(strangers: None) -> Iterator[Path]:  # noqa: ARG001 - it belongs to root
    """A folder of root's that everybody may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="lab") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path
