"""Facts about processes, through psutil: identity, ancestry, command line, cgroups, environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resolver.errors import StateChangedError
from resolver.host.identity import identify
from resolver.model import Pid, Process, ProcessIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_CAP_SYS_PTRACE = 19


def blind_spot() -> str:
    """Why a socket may be seen without its owner: what this process may not look into.

    Reading another's descriptors takes CAP_SYS_PTRACE (proc_pid_fd(5)), which root in a container
    mostly lacks.
    """
    if os.geteuid() != 0:
        return "its owner is hidden from this user"
    if not _has_capability(_CAP_SYS_PTRACE):
        return "its owner is hidden for want of CAP_SYS_PTRACE (docker: --cap-add=SYS_PTRACE)"
    return "its owner is in another PID namespace: look from the host (docker: --pid=host)"


def own_line() -> tuple[ProcessIdentity, ...]:
    """This process and its ancestors, up to PID 1."""
    own = identify(Pid(os.getpid()))
    return (own, *ancestors_of(own))


def ancestors_of(identity: ProcessIdentity) -> tuple[ProcessIdentity, ...]:
    """From the parent up to PID 1; shorter where a parent is hidden or has just gone."""
    line: dict[ProcessIdentity, None] = {}
    pid = _parent(identity.pid)
    while pid > 0:
        try:
            parent = identify(pid)
        except StateChangedError:
            break
        if parent in line:  # a PID that was reused in mid-walk could make a loop
            break
        line[parent] = None
        pid = _parent(pid)
    return tuple(line)


def describe(identities: Iterable[ProcessIdentity]) -> tuple[Process, ...]:
    """The facts about each process that still exists, and about all their ancestors; sorted."""
    wanted: set[ProcessIdentity] = set()
    found: list[Process] = []
    for identity in identities:
        wanted.add(identity)
        wanted.update(ancestors_of(identity))
    for identity in sorted(wanted):
        process = _describe(identity)
        if process is not None:
            found.append(process)
    return tuple(found)


def _describe(identity: ProcessIdentity) -> Process | None:
    """The facts about one process; None where it has ended, or its PID is another's by now."""
    import psutil  # noqa: PLC0415 - a free port never gets here

    try:
        source = psutil.Process(identity.pid)
        with source.oneshot():
            process = _read(identity, source)
    except psutil.NoSuchProcess:
        return None
    try:
        return process if identify(identity.pid) == identity else None
    except StateChangedError:
        return None


def _read(identity: ProcessIdentity, source: Any) -> Process:  # noqa: ANN401 - psutil, loaded late
    uids = _allowed(source.uids, None)
    return Process(
        identity=identity,
        name=_allowed(source.name, "?"),
        command=_words(_allowed(source.cmdline, [])),
        executable=_allowed(source.exe, "") or None,
        cwd=_folder(_allowed(source.cwd, "")),
        user=_user(source),
        uid=None if uids is None else uids.real,
        ancestors=ancestors_of(identity),
        cgroups=_cgroups(identity.pid),
        environment=tuple(sorted(_allowed(source.environ, {}).items())),
        on_terminal=_on_terminal(identity.pid),
        stopped=_allowed(source.status, "") == "stopped",
        signalable=_signalable(identity.pid),
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
    return path if path and _allowed(Path(path).is_dir, otherwise=True) else None


def _user(source: Any) -> str | None:  # noqa: ANN401
    try:
        user = _allowed(source.username, None)
    except KeyError:  # a uid without a name
        return None
    return user if isinstance(user, str) else None


def _has_capability(number: int) -> bool:
    """Whether this process has a capability (capabilities(7)); True where there are none."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return True
    effective = next((line for line in status.splitlines() if line.startswith("CapEff:")), None)
    return effective is None or bool(int(effective.split()[1], 16) >> number & 1)


def _cgroups(pid: Pid) -> tuple[str, ...]:
    """The path in each hierarchy (`id:controllers:path`, cgroups(7)), each once."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(errors="replace").splitlines()
    except OSError:
        return ()
    paths = (line.split(":", 2)[2] for line in lines if line.count(":") > 1)
    return tuple(dict.fromkeys(paths))


def _on_terminal(pid: Pid) -> bool:
    """Whether descriptor 0 is a terminal (pts(4), console(4))."""
    try:
        return str(Path(f"/proc/{pid}/fd/0").readlink()).startswith(("/dev/pts/", "/dev/tty"))
    except OSError:
        return False


def _signalable(pid: Pid) -> bool:
    """Whether kill(2) would be permitted; signal 0 checks that and sends nothing."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return False
    except ProcessLookupError:
        return True
    return True


def _parent(pid: Pid) -> Pid:
    """The parent's PID, 0 where there is none or it cannot be read."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        return _portable_parent(pid) if not Path("/proc/self/stat").exists() else Pid(0)
    except OSError:
        return Pid(0)
    return Pid(int(stat[stat.rindex(b")") + 2 :].split()[1]))


def _portable_parent(pid: Pid) -> Pid:
    import psutil  # noqa: PLC0415

    try:
        return Pid(psutil.Process(pid).ppid())
    except psutil.Error:
        return Pid(0)
