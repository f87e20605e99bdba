"""Who is in the stage of today. Its engines run, with an image; they end with it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.lab.cli import ultra

collect_ignore_glob = [] if os.environ.get("ULTRA_PORTS_TODAY") else ["test_*.py"]


class User:
    """A user of the stage, by the command that runs another as that user."""

    def __init__(self, name: str, *prefix: str) -> None:
        self.name = name
        self.prefix = prefix

    def __call__(self, *argv: str, check: bool = True) -> str:
        """Runs a command as this user, and returns its output.

        Raises:
            AssertionError: it failed.
        """
        words = [*self.prefix, *argv]
        done = subprocess.run(words, cwd="/", capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def ultra(self, *arguments: str) -> Any:  # noqa: ANN401 - the envelope
        """The envelope of `ultra-ports ARGUMENTS`, as this user."""
        return ultra(*arguments, "--json", prefix=self.prefix, cwd=Path("/")).json


BARE = ("env", "-i", "PATH=/usr/sbin:/usr/bin", "LANG=C.UTF-8")
USERS = {
    "root": User("root", *BARE, "HOME=/root"),
    "alice": User("alice", "setpriv", "--reuid=1500", "--regid=1500", "--clear-groups", *BARE,
                  "HOME=/home/alice", "USER=alice", "XDG_RUNTIME_DIR=/run/user/1500"),
}  # fmt: skip


@pytest.fixture
def users() -> dict[str, User]:
    """Root, and Alice, who has subordinate ids and a rootless Docker."""
    return USERS
