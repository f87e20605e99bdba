"""Owners of leases: who this process is, and whether a lease's owner has ended.

A PID means something in one boot and one PID namespace only. What cannot be judged by PID is judged
by its time to live alone (`rules.bounded` gives it one).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from msgspec import Struct

from resolver.errors import StateChangedError, UsageError
from resolver.host import machine
from resolver.host.files import text_of
from resolver.host.identity import proc_is_ours, start_time
from resolver.leases.model import Owner
from resolver.leases.scope import host_scope
from resolver.model import Pid

if TYPE_CHECKING:
    from collections.abc import Mapping

_ENDED = {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}


class Here(Struct, frozen=True):
    """What the owners of leases are compared with.

    `host_scope` names this machine's own ports, whichever boot it is in.
    """

    boot: str
    pid_namespace: str
    host_scope: str

    @property
    def sees_all_pids(self) -> bool:
        """Whether this process is in the machine's first PID namespace, which sees all others."""
        return self.pid_namespace in {"", machine.INITIAL_PID_NAMESPACE}


def here(environ: Mapping[str, str]) -> Here:
    """This process's surroundings."""
    found = machine.this_machine()
    return Here(found.boot, found.pid_namespace, host_scope(environ))


def owner_of(pid: int, where: Here) -> Owner:
    """The process that has this PID now.

    Raises:
        UsageError: there is no such process.
    """
    try:
        return Owner(where.boot, where.pid_namespace, Pid(pid), start_time(Pid(pid)))
    except StateChangedError as error:
        raise UsageError(str(error)) from error


def myself(where: Here) -> Owner:
    """This process."""
    return owner_of(os.getpid(), where)


def is_dead(owner: Owner, scope: str, where: Here) -> bool:
    """Whether the owner has certainly ended; False also where that cannot be told from here."""
    if owner.boot != where.boot:
        return scope == where.host_scope  # an earlier boot; else it may be another machine's
    if owner.pid_namespace != where.pid_namespace:
        return False
    return not _lives(owner)


def is_deserted(place: str, scope: str, where: Here) -> bool:
    """Whether the directory of a project is certainly gone; False also where that is not known."""
    if not place.startswith("/") or scope != where.host_scope or not where.sees_all_pids:
        return False  # another machine's, or perhaps another file system's
    try:
        os.lstat(place)
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return False


def name_of(owner: Owner, where: Here) -> str:
    """What the owner's process is called; "" where it cannot be seen from here."""
    if (owner.boot, owner.pid_namespace) != (where.boot, where.pid_namespace):
        return ""
    return text_of(f"/proc/{owner.pid}/comm").rstrip("\n")


def _lives(owner: Owner) -> bool:
    try:
        return start_time(owner.pid) == owner.start_time and not _has_ended(owner.pid)
    except StateChangedError:
        return _exists(owner.pid)


def _exists(pid: Pid) -> bool:
    """Whether the PID is anybody's: other users' processes may be hidden (hidepid of proc(5))."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    # what we may signal, and cannot look at, ended meanwhile
    return not proc_is_ours() or sys.platform != "linux" or Path(f"/proc/{pid}/stat").exists()


def _has_ended(pid: Pid) -> bool:
    """Whether nobody has reaped it yet; a main thread that has ended may leave others."""
    if not proc_is_ours():
        return False
    try:
        process = psutil.Process(pid)
        return process.status() in _ENDED and process.num_threads() <= 1
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False
