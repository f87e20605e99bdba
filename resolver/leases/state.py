"""Where reservations are kept: the state directory, by the settings and the platform."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
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
_VARIABLE = re.compile(r"(?a)\$(?:(\w+)|\{(\w+)\})")


class StateDirectory(Struct, frozen=True):
    """An absolute path as text, and which setting it came from. `reason`: why there is none."""

    text: str
    origin: str
    reason: str = ""

    @property
    def path(self) -> Path:
        """The directory."""
        return Path(self.text)

    @property
    def ledger(self) -> Path:
        """The database of reservations, or the first of its copies."""
        return self.path / (COPIES[0] if is_shared(_mode(self.text)) else LEDGER)

    @property
    def written(self) -> tuple[Path, Path]:
        """The files of which one changes with each reservation (sqlite.org/wal.html)."""
        ledger = self.ledger
        other = COPIES[1] if ledger.name in COPIES else f"{ledger.name}-wal"
        return ledger, ledger.with_name(other)

    @property
    def was_used(self) -> bool:
        """Whether there may be anything in it; where there is no directory, there is no ledger."""
        return _mode(self.text) != 0


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
        path = _expanded(chosen, environ)
        whole = path if path.startswith("/") else f"{root()}/{path}"
        return StateDirectory(os.path.normpath(whole), STATE_VARIABLE)
    state = environ.get("XDG_STATE_HOME", "")
    if state.startswith("/") and platform != "darwin":  # a relative one is to be ignored
        return StateDirectory(_below(state), "XDG_STATE_HOME")
    home = _home(environ)
    if home is None:
        return StateDirectory(os.devnull, "default", "this user has no home directory")
    if platform == "darwin":
        return StateDirectory(_below(f"{home}/Library/Application Support"), "default")
    return StateDirectory(_below(f"{home}/.local/state"), "default")


def _below(folder: str) -> str:
    return f"{folder.rstrip('/')}/{NAME}"


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode
    except OSError:
        return 0


def _home(environ: Mapping[str, str]) -> str | None:
    home = environ.get("HOME", "") or os.path.expanduser("~")
    return home.rstrip("/") if home.startswith("/") and home != "/nonexistent" else None


def _expanded(text: str, environ: Mapping[str, str]) -> str:
    """The path with `~`, `~user`, `$NAME` and `${NAME}` filled in."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in environ:
            raise UsageError(f"{STATE_VARIABLE} is {text!a}: {name} is not set")
        return environ[name]

    filled = _VARIABLE.sub(value, text) if "$" in text else text
    if filled == "~" or filled.startswith("~/"):
        home = _home(environ)
        if home is None:
            raise UsageError(f"{STATE_VARIABLE} is {text!a}: this user has no home directory")
        filled = f"{home}{filled[1:]}"
    expanded = os.path.expanduser(filled)
    if expanded.startswith("~"):
        raise UsageError(f"{STATE_VARIABLE} is {text!a}: there is no such user")
    if "\0" in expanded:
        raise UsageError(f"{STATE_VARIABLE} is {text!a}: this is no path")
    return expanded
