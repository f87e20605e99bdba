"""Where reservations are kept: the state directory, by the settings and the platform."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import UsageError
from resolver.host.files import is_shared
from resolver.settings import STATE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NAME = "ultra-ports"
LEDGER = "leases.db"
COPIES = ("leases.1", "leases.2")  # in place of it, in a directory that users share
OUTCOMES = "outcomes"  # what resolve came to, where somebody wants to know


class StateDirectory(Struct, frozen=True):
    """An absolute path, and which setting it came from. `reason`: why there is none."""

    path: Path
    origin: str
    reason: str = ""

    @property
    def ledger(self) -> Path:
        """The database of reservations, or the first of its copies."""
        return self.path / (COPIES[0] if is_shared(self._mode) else LEDGER)

    @property
    def was_used(self) -> bool:
        """Whether there may be anything in it; where there is no directory, there is no ledger."""
        return not self.reason and self._mode != 0

    @property
    def _mode(self) -> int:
        try:
            return self.path.stat().st_mode
        except OSError:
            return 0


def state_directory(
    environ: Mapping[str, str], root: Callable[[], Path], platform: str = sys.platform
) -> StateDirectory:
    """`ULTRA_PORTS_STATE`, else the platform's state directory; nothing is made.

    Args:
        environ: `HOME`, `XDG_STATE_HOME` and the setting; it may have `~` and variables in it.
        root: gives the project's root, which a relative path starts from.
        platform: as `sys.platform`.

    Raises:
        UsageError: the setting has a variable or a user in it that there is not.
    """
    if chosen := environ.get(STATE_VARIABLE, "").strip():
        path = os.path.normpath(os.path.join(root(), _expanded(chosen, environ)))
        return StateDirectory(Path(path), STATE_VARIABLE)
    state = environ.get("XDG_STATE_HOME", "")
    if state.startswith("/") and platform != "darwin":  # a relative one is to be ignored
        return StateDirectory(Path(state, NAME), "XDG_STATE_HOME")
    home = _home(environ)
    if home is None:
        return StateDirectory(Path(os.devnull), "default", "this user has no home directory")
    below = "Library/Application Support" if platform == "darwin" else ".local/state"
    return StateDirectory(Path(f"{home}/{below}/{NAME}"), "default")


def _home(environ: Mapping[str, str]) -> str | None:
    """The home directory without a slash at its end; None where there is none."""
    home = environ.get("HOME", "") or os.path.expanduser("~")
    return home.rstrip("/") if home.startswith("/") and home != "/nonexistent" else None


def _expanded(text: str, environ: Mapping[str, str]) -> str:
    """The path with `~`, `~user`, `$NAME` and `${NAME}` filled in."""
    wrong = f"{STATE_VARIABLE} is {text!a}: "
    try:
        path = Template(text).substitute(environ) if "$" in text else text
    except KeyError as error:
        raise UsageError(f"{wrong}{error.args[0]} is not set") from error
    except ValueError as error:
        raise UsageError(f"{wrong}a $ alone is written $$") from error
    if path == "~" or path.startswith("~/"):
        path = f"{_home(environ) or '~'}{path[1:]}"
    path = os.path.expanduser(path)
    if path.startswith("~") or "\0" in path:
        raise UsageError(f"{wrong}there is no such home directory, or it is no path")
    return path
