"""Facts about processes: identity, ancestry, command line, cgroups, environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

import psutil

from resolver.errors import StateChangedError
from resolver.gather.in_flight import keepers
from resolver.host.files import link_of, namespace_of, status_words, text_of
from resolver.host.identity import FOREIGN_PROC, identify, proc_is_ours
from resolver.host.machine import INITIAL_PID_NAMESPACE, INITIAL_USER_NAMESPACE
from resolver.model import Pid, Process, ProcessIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from resolver.model import Socket

_DELETED = " (deleted)"
_T = TypeVar("_T")
_CAP_SYS_PTRACE = 19


def blind_spot(sockets: Iterable[Socket]) -> str:
    """Why a socket may be seen without its owner: what this process may not look into.

    Reading another's descriptors takes CAP_SYS_PTRACE (proc_pid_fd(5)), which root in a container
    mostly lacks.
    """
    if not proc_is_ours():
        return f"its owner is hidden: {FOREIGN_PROC} (unshare --mount-proc gives one of its own)"
    if os.geteuid() != 0:
        return "not visible to you"
    if not _has_capability(_CAP_SYS_PTRACE):
        return "its owner is hidden for want of CAP_SYS_PTRACE (docker: --cap-add=SYS_PTRACE)"
    ownerless = {entry.inode for entry in sockets if entry.inode > 0 and not entry.owners}
    kept = keepers(ownerless) if ownerless else ""
    if kept or (_sees_everybody() and _is_everybodys_root()):
        return f"no process has it open{': ' if kept else ''}{kept}"
    if _sees_everybody():
        return "its owner is hidden from this user namespace: look from outside of it"
    return "its owner is in another PID namespace: look from the host (docker: --pid=host)"


def _is_everybodys_root() -> bool:
    """Whether its capabilities are for every process; a user namespace has its own (ptrace(2))."""
    return namespace_of("self", "user") == INITIAL_USER_NAMESPACE


def _sees_everybody() -> bool:
    """Whether this is the machine's first PID namespace, which has every process."""
    return namespace_of("self", "pid") == INITIAL_PID_NAMESPACE


def own_line() -> tuple[ProcessIdentity, ...]:
    """This process and its ancestors, up to PID 1."""
    own = identify(Pid(os.getpid()))
    return (own, *ancestors_of(own))


def ancestors_of(identity: ProcessIdentity) -> tuple[ProcessIdentity, ...]:
    """From the parent up to PID 1; shorter where a parent is hidden or has just gone."""
    return tuple(_line(identity, {}))


def describe(identities: Iterable[ProcessIdentity]) -> tuple[Process, ...]:
    """The facts about each process that still exists, and about all their ancestors; sorted.

    Where /proc is another PID namespace's, nothing is known of any.
    """
    if not proc_is_ours():
        return ()
    parents: dict[Pid, ProcessIdentity | None] = {}
    lines: dict[ProcessIdentity, tuple[ProcessIdentity, ...]] = {}
    for identity in identities:
        line = tuple(_line(identity, parents))
        lines[identity] = line
        for number, ancestor in enumerate(line):
            lines.setdefault(ancestor, line[number + 1 :])
    found = (_describe_one(identity, lines[identity]) for identity in sorted(lines))
    return tuple(process for process in found if process is not None)


def described(identities: Iterable[ProcessIdentity]) -> tuple[Process, ...]:
    """The facts about each process that still exists, and about no other."""
    wanted = set(identities)
    return tuple(process for process in describe(wanted) if process.identity in wanted)


def _line(
    identity: ProcessIdentity, parents: dict[Pid, ProcessIdentity | None]
) -> Iterator[ProcessIdentity]:
    """The ancestors; `parents` remembers who was found above whom."""
    seen = {identity}
    above = _parent(identity.pid, parents)
    while above is not None and above not in seen:  # a PID reused in mid-walk could make a loop
        seen.add(above)
        yield above
        above = _parent(above.pid, parents)


def _parent(pid: Pid, parents: dict[Pid, ProcessIdentity | None]) -> ProcessIdentity | None:
    if pid not in parents:
        above = _parent_pid(pid)
        try:
            parents[pid] = identify(above) if above > 0 else None
        except StateChangedError:
            parents[pid] = None
    return parents[pid]


def _parent_pid(pid: Pid) -> Pid:
    """The parent's PID, 0 where there is none or it cannot be read."""
    try:
        return Pid(psutil.Process(pid).ppid() if proc_is_ours() else 0)
    except psutil.Error:
        return Pid(0)


def _describe_one(
    identity: ProcessIdentity, ancestors: tuple[ProcessIdentity, ...]
) -> Process | None:
    """The facts about one process; None where it has ended, or its PID is another's by now."""
    try:
        source = psutil.Process(identity.pid)
        with source.oneshot():
            process = _read(identity, ancestors, source)
        return process if identify(identity.pid) == identity else None
    except (psutil.NoSuchProcess, StateChangedError):
        return None


def _read(
    identity: ProcessIdentity, ancestors: tuple[ProcessIdentity, ...], source: psutil.Process
) -> Process:
    uids, no_variables = _allowed(source.uids, None), dict[str, str]()
    return Process(
        identity=identity,
        name=_allowed(source.name, "?"),
        command=_words(_allowed(source.cmdline, []), text_of(f"/proc/{identity.pid}/cmdline")),
        executable=_allowed(source.exe, "") or None,
        cwd=(folder := _folder(_allowed(source.cwd, ""))),
        deleted_cwd=None if folder else _deleted_folder(identity.pid),
        user=_user(source),
        uid=None if uids is None else uids.real,
        uids=None if uids is None else (uids.real, uids.effective, uids.saved),
        ancestors=ancestors,
        cgroups=_cgroups(identity.pid),
        environment=tuple(sorted(_allowed(source.environ, no_variables).items())),
        on_terminal=_on_terminal(identity.pid),
        stopped=_allowed(source.status, "") == psutil.STATUS_STOPPED,
        signalable=_signalable(identity.pid),
    )


def _allowed(read: Callable[[], _T], otherwise: _T) -> _T:
    """What `read` returns, or `otherwise` where this user may not know it."""
    try:
        return read()
    except psutil.ZombieProcess:
        return otherwise
    except psutil.NoSuchProcess:
        raise
    except (psutil.AccessDenied, OSError, UnicodeError):
        return otherwise


def _words(command: list[str], raw: str) -> tuple[str, ...]:
    """The command line, without the empty words that a program leaves when it retitles itself.

    A single one at the end is an argument. psutil splits `raw` (proc_pid_cmdline(5)) at its spaces
    where it is one word: the path of a program, or a title.
    """
    end = len(command)
    while end and not command[end - 1]:
        end -= 1
    whole = raw.rstrip("\0")
    if end > 1 and raw.endswith("\0") and "\0" not in whole:
        return (whole,)
    return tuple(command if len(command) == end + 1 else command[:end])


def _folder(path: str) -> str | None:
    """The working directory, where it still exists, as far as this user may know."""
    return path if path and _allowed(lambda: os.path.isdir(path), otherwise=True) else None


def _deleted_folder(pid: Pid) -> str | None:
    """The working directory that was deleted (proc_pid_cwd(5)); None where it was not."""
    path = link_of(f"/proc/{pid}/cwd")
    return path.removesuffix(_DELETED) if path.endswith(_DELETED) else None


def _user(source: psutil.Process) -> str | None:
    try:
        return _allowed(source.username, "") or None
    except KeyError:  # a uid without a name
        return None


def _cgroups(pid: Pid) -> tuple[str, ...]:
    """Its place in each hierarchy, once: what follows the second colon of a line (cgroups(7))."""
    lines = text_of(f"/proc/{pid}/cgroup").splitlines()
    paths = (line.split(":", 2)[2] for line in lines if line.count(":") > 1)
    return tuple(dict.fromkeys(paths))


def _on_terminal(pid: Pid) -> bool:
    """Whether descriptor 0 is a terminal (pts(4), console(4))."""
    return link_of(f"/proc/{pid}/fd/0").startswith(("/dev/pts/", "/dev/tty"))


def _signalable(pid: Pid) -> bool:
    """Whether kill(2) would be permitted; signal 0 checks that and sends nothing."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return False
    except ProcessLookupError:
        return True
    return True


def _has_capability(number: int) -> bool:
    """Whether this process has a capability (capabilities(7)); True where there are none."""
    effective = status_words("self", "CapEff")
    return not effective or bool(int(effective[0], 16) >> number & 1)
