"""Facts about one process through psutil: on platforms without /proc, and for tests of that way."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from resolver.errors import StateChangedError
from resolver.gather.procfs import cgroups, on_terminal, signalable
from resolver.host.identity import identify
from resolver.model import Pid, Process

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolver.model import ProcessIdentity


def describe(identity: ProcessIdentity, ancestors: tuple[ProcessIdentity, ...]) -> Process | None:
    """The facts about one process; None where it has ended, or its PID is another's by now."""
    import psutil  # noqa: PLC0415 - a free port never gets here

    try:
        source = psutil.Process(identity.pid)
        with source.oneshot():
            process = _read(identity, ancestors, source)
    except psutil.NoSuchProcess:
        return None
    try:
        return process if identify(identity.pid) == identity else None
    except StateChangedError:
        return None


def _read(
    identity: ProcessIdentity,
    ancestors: tuple[ProcessIdentity, ...],
    source: Any,  # noqa: ANN401 - psutil, loaded late
) -> Process:
    uids = _allowed(source.uids, None)
    return Process(
        identity=identity,
        name=_allowed(source.name, "?"),
        command=_words(_allowed(source.cmdline, [])),
        executable=_allowed(source.exe, "") or None,
        cwd=_folder(_allowed(source.cwd, "")),
        user=_user(source),
        uid=None if uids is None else uids.real,
        uids=None if uids is None else (uids.real, uids.effective, uids.saved),
        ancestors=ancestors,
        cgroups=cgroups(identity.pid),
        environment=tuple(sorted(_allowed(source.environ, {}).items())),
        on_terminal=on_terminal(identity.pid),
        stopped=_allowed(source.status, "") == "stopped",
        signalable=signalable(identity.pid),
    )


def _allowed(read: Callable[[], Any], otherwise: Any) -> Any:  # noqa: ANN401 - psutil's values
    """What `read` returns, or `otherwise` where this user may not know it."""
    import psutil  # noqa: PLC0415

    try:
        return read()
    except psutil.ZombieProcess:
        return otherwise
    except psutil.NoSuchProcess:
        raise
    except (psutil.AccessDenied, OSError, UnicodeError):
        return otherwise


def _words(command: list[str]) -> tuple[str, ...]:
    """The command line, without the empty words that a program leaves when it retitles itself."""
    while command and not command[-1]:
        command = command[:-1]
    return tuple(command)


def _folder(path: str) -> str | None:
    """The working directory, where it still exists, as far as this user may know."""
    return path if path and _allowed(lambda: os.path.isdir(path), otherwise=True) else None


def _user(source: Any) -> str | None:  # noqa: ANN401
    try:
        user = _allowed(source.username, None)
    except KeyError:  # a uid without a name
        return None
    return user if isinstance(user, str) else None


def parent(pid: Pid) -> Pid:
    """The parent's PID, 0 where there is none or it cannot be read."""
    import psutil  # noqa: PLC0415

    try:
        return Pid(psutil.Process(pid).ppid())
    except psutil.Error:
        return Pid(0)
