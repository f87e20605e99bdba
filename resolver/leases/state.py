"""Where reservations are kept: the state directory, by the settings and the platform."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.errors import UsageError
from resolver.settings import STATE_VARIABLE
from resolver.values import value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NAME = "ultra-ports"
LEDGER = "leases.db"
OUTCOMES = "outcomes"  # what resolve came to, where somebody wants to know
SHARED = "shared"
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})", re.ASCII)


@value
class StateDirectory:
    """An absolute path, and which setting it came from. `reason`: why there is none, else empty."""

    path: Path
    origin: str
    reason: str = ""

    @property
    def ledger(self) -> Path:
        """The database of reservations.

        In a sticky directory that everybody may write to, the kernel may refuse to open what others
        made (`fs.protected_regular`, proc_sys_fs(5)): there the ledger has a directory of its own.
        """
        sticky = self.origin == STATE_VARIABLE and is_sticky(self.path)
        return (self.path / SHARED if sticky else self.path) / LEDGER


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
        whole = path if path.is_absolute() else root() / path
        return StateDirectory(Path(os.path.normpath(whole)), STATE_VARIABLE)
    state = environ.get("XDG_STATE_HOME", "")
    if Path(state).is_absolute() and platform != "darwin":  # a relative one is to be ignored
        return StateDirectory(Path(state) / NAME, "XDG_STATE_HOME")
    home = _home(environ)
    if home is None:
        return StateDirectory(Path(os.devnull), "default", "this user has no home directory")
    if platform == "darwin":
        return StateDirectory(home / "Library" / "Application Support" / NAME, "default")
    return StateDirectory(home / ".local" / "state" / NAME, "default")


def is_sticky(path: Path) -> bool:
    """Whether others may make files here, and not remove each other's, as in /tmp."""
    mode = _mode(path)
    return bool(mode & 0o1000 and mode & 0o022)


def shared_mode(path: Path) -> int | None:
    """The mode of files that everybody who may write to this directory shall use; None: no wish."""
    mode = _mode(path)
    return 0o600 | mode & 0o066 if mode & 0o022 else None


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _home(environ: Mapping[str, str]) -> Path | None:
    home = environ.get("HOME", "") or os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises
    return Path(home) if Path(home).is_absolute() and home != "/nonexistent" else None


def _expanded(text: str, environ: Mapping[str, str]) -> Path:
    """The path with `~`, `~user`, `$NAME` and `${NAME}` filled in."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in environ:
            raise UsageError(f"{STATE_VARIABLE} is {text!a}: {name} is not set")
        return environ[name]

    filled = _VARIABLE.sub(value, text)
    if filled == "~" or filled.startswith("~/"):
        home = _home(environ)
        if home is None:
            raise UsageError(f"{STATE_VARIABLE} is {text!a}: this user has no home directory")
        filled = f"{home}{filled[1:]}"
    expanded = os.path.expanduser(filled)  # noqa: PTH111 - Path's raises
    if expanded.startswith("~"):
        raise UsageError(f"{STATE_VARIABLE} is {text!a}: there is no such user")
    if "\0" in expanded:
        raise UsageError(f"{STATE_VARIABLE} is {text!a}: this is no path")
    return Path(expanded)
