"""Facts about one process from Linux's /proc, read once each (proc(5)).

The words are psutil's, which is the portable way: the name that is longer than 15 characters where
the command line shows it, the command line of programs that retitle themselves, paths without
" (deleted)". Loading it takes longer than reading all that is needed here.
"""

from __future__ import annotations

import os

from resolver.host.files import read
from resolver.host.identity import proc_is_ours
from resolver.model import Pid, Process, ProcessIdentity
from resolver.values import value

_SHORT_NAME = 15  # TASK_COMM_LEN without its last byte
_DELETED = " (deleted)"


@value
class Stat:
    """What `/proc/PID/stat` says that matters here."""

    name: str
    state: str
    parent: Pid
    start_time: int


def stat(pid: int) -> Stat | None:
    """One process's line; None where it is gone or hidden.

    Names hold spaces, brackets and newlines, so the fields are counted from the last bracket.
    """
    raw = _read(pid, "stat") if proc_is_ours() else b""
    if not raw:
        return None
    opening, closing = raw.index(b"("), raw.rindex(b")")
    fields = raw[closing + 2 :].split()
    return Stat(
        os.fsdecode(raw[opening + 1 : closing]),
        fields[0].decode("ascii"),
        Pid(int(fields[1])),
        int(fields[19]),
    )


def describe(identity: ProcessIdentity, ancestors: tuple[ProcessIdentity, ...]) -> Process | None:
    """The facts about one process; None where it has ended, or its PID is another's by now."""
    found = stat(identity.pid)
    if found is None or found.start_time != identity.start_time:
        return None
    pid = identity.pid
    command = _command(pid)
    uids = _uids(pid)
    uid = uids[0] if uids else None
    process = Process(
        identity=identity,
        name=_name(found.name, command),
        command=command,
        executable=_executable(pid, command),
        cwd=_cwd(pid),
        user=_user(uid),
        uid=uid,
        uids=uids,
        ancestors=ancestors,
        cgroups=cgroups(pid),
        environment=_environment(pid),
        on_terminal=on_terminal(pid),
        stopped=found.state == "T",
        signalable=signalable(pid),
    )
    now = stat(pid)  # what was read in between was this process's only if it still is the one
    return process if now and now.start_time == identity.start_time else None


def _read(pid: int, name: str) -> bytes:
    """A file of the process; empty where it is gone or not for this user."""
    try:
        return read(f"/proc/{pid}/{name}")
    except OSError:
        return b""


def _link(pid: int, name: str) -> str:
    """Where a link leads; empty where it leads nowhere, or is not for this user."""
    try:
        path = os.readlink(f"/proc/{pid}/{name}").split("\0")[0]
    except OSError:
        return ""
    if path.endswith(_DELETED) and not os.path.lexists(path):
        return path.removesuffix(_DELETED)
    return path


def _command(pid: int) -> tuple[str, ...]:
    """The command line; a program that retitles itself may have put spaces between the words."""
    text = os.fsdecode(_read(pid, "cmdline"))
    if not text:
        return ()
    separator = "\0" if text.endswith("\0") else " "
    words = text.removesuffix(separator).split(separator)
    if separator == "\0" and len(words) == 1 and " " in words[0]:
        words = words[0].split(" ")
    while words and not words[-1]:
        words.pop()
    return tuple(words)


def _name(short: str, command: tuple[str, ...]) -> str:
    """The kernel cuts a name; the command line may have the whole of it."""
    if len(short) >= _SHORT_NAME and command:
        whole = os.path.basename(command[0])
        if whole.startswith(short):
            return whole
    return short


def _executable(pid: int, command: tuple[str, ...]) -> str | None:
    """The program's file; where it is hidden, the command's first word if that is one."""
    if found := _link(pid, "exe"):
        return found
    word = command[0] if command else ""
    known = os.path.isabs(word) and os.path.isfile(word) and os.access(word, os.X_OK)
    return word if known else None


def _cwd(pid: int) -> str | None:
    """The working directory, where it still exists, as far as this user may know."""
    path = _link(pid, "cwd")
    try:
        return path if path and os.stat(path) else None
    except FileNotFoundError:
        return None
    except OSError:
        return path


def _uids(pid: int) -> tuple[int, int, int] | None:
    """The real, effective and saved user ids."""
    for line in _read(pid, "status").split(b"\n"):
        if line.startswith(b"Uid:"):
            real, effective, saved = map(int, line.split()[1:4])
            return real, effective, saved
    return None


def _user(uid: int | None) -> str | None:
    """The name of a user; None for a uid without one."""
    if uid is None:
        return None
    import pwd  # noqa: PLC0415 - a free port never gets here

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def cgroups(pid: int) -> tuple[str, ...]:
    """Its place in each hierarchy, once: what follows the second colon of a line."""
    lines = _read(pid, "cgroup").decode(errors="replace").splitlines()
    paths = (line.split(":", 2)[2] for line in lines if line.count(":") > 1)
    return tuple(dict.fromkeys(paths))


def _environment(pid: int) -> tuple[tuple[str, str], ...]:
    """The variables as they were when the process started, sorted by name."""
    found = {}
    for entry in os.fsdecode(_read(pid, "environ")).split("\0"):
        if not entry:
            break
        name, equals, text = entry.partition("=")
        if equals and name:
            found[name] = text
    return tuple(sorted(found.items()))


def on_terminal(pid: int) -> bool:
    """Whether descriptor 0 is a terminal (pts(4), console(4))."""
    return _link(pid, "fd/0").startswith(("/dev/pts/", "/dev/tty"))


def signalable(pid: int) -> bool:
    """Whether kill(2) would be permitted; signal 0 checks that and sends nothing."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return False
    except ProcessLookupError:
        return True
    return True
