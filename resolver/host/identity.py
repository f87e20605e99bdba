"""Process identity: a PID means nothing without the time its process started."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

import psutil

from resolver.errors import StateChangedError
from resolver.host.files import link_of, read, status_words
from resolver.model import Pid, ProcessIdentity

if TYPE_CHECKING:
    from collections.abc import Iterable

_TICKS = os.sysconf("SC_CLK_TCK")
_START_TIME_FIELD = 22 - 3  # proc_pid_stat(5) counts from 1, and two fields precede the last ")"


FOREIGN_PROC = "/proc shows the processes of another PID namespace"


@lru_cache(maxsize=1)  # a process stays in its PID namespace
def proc_is_ours() -> bool:
    """Whether the PIDs in /proc are those of this process's own PID namespace (pid_namespaces(7)).

    They are not in a sandbox that has unshared its PIDs and kept the /proc of its host: there they
    are other processes' numbers.
    """
    if sys.platform != "linux":
        return True
    if link_of("/proc/self") != str(os.getpid()) or _has_inner_number():
        return False
    try:
        handle = os.pidfd_open(os.getpid())
    except OSError:  # a kernel without pidfds
        return True
    try:
        return is_process(handle, Pid(os.getpid()))
    finally:
        os.close(handle)


def _has_inner_number() -> bool:
    """Whether /proc is that of a PID namespace above ours: it knows us by several numbers.

    `NSpid` has one for each namespace from that of /proc down to our own (proc_pid_status(5)). The
    link /proc/self can agree with our own number by chance.
    """
    return len(status_words("self", "NSpid")) > 1


def is_process(handle: int, pid: Pid) -> bool:
    """Whether /proc calls the process behind a pidfd by this number (pidfd_open(2), fdinfo)."""
    try:
        lines = read(f"/proc/self/fdinfo/{handle}").splitlines()
    except OSError:
        return False
    numbers = [line.removeprefix(b"Pid:") for line in lines if line.startswith(b"Pid:")]
    return not numbers or int(numbers[0]) == pid


def start_time(pid: Pid) -> int:
    """When the process started, in the unit of `ProcessIdentity.start_time`.

    Raises:
        StateChangedError: there is no such process, or it is hidden from this user.
    """
    if sys.platform != "linux":
        return _portable_start_time(pid)
    own = pid == os.getpid()
    if not own and not proc_is_ours():
        raise StateChangedError(f"process {pid} is hidden: {FOREIGN_PROC}")
    try:
        return parse_start_time(read("/proc/self/stat" if own else f"/proc/{pid}/stat"))
    except (FileNotFoundError, ProcessLookupError) as error:
        raise StateChangedError(f"process {pid} is gone") from error
    except PermissionError as error:  # /proc mounted with hidepid=1
        raise StateChangedError(f"process {pid} is hidden") from error


def parse_start_time(stat: bytes) -> int:
    """The start time in a `/proc/PID/stat` line; names may hold spaces, brackets and newlines."""
    return int(stat[stat.rindex(b")") + 2 :].split()[_START_TIME_FIELD])


def identify(pid: Pid) -> ProcessIdentity:
    """The identity of the process that has this PID now.

    Raises:
        StateChangedError: there is no such process.
    """
    return ProcessIdentity(pid, start_time(pid))


def identified(pids: Iterable[Pid]) -> list[ProcessIdentity]:
    """Those of the processes that there are, in their order."""
    found = []
    for pid in pids:
        with suppress(StateChangedError):
            found.append(identify(pid))
    return found


def is_alive(identity: ProcessIdentity) -> bool:
    """True while that very process exists, be it as a zombie."""
    try:
        return start_time(identity.pid) == identity.start_time
    except StateChangedError:
        return False


def age_seconds(identity: ProcessIdentity) -> float:
    """How long ago it started, whether it still runs or not; in the boot that started it."""
    if sys.platform != "linux":
        return time.time() - identity.start_time / 1000
    return time.clock_gettime(time.CLOCK_BOOTTIME) - identity.start_time / _TICKS


def _portable_start_time(pid: Pid) -> int:
    try:
        return round(psutil.Process(pid).create_time() * 1000)
    except psutil.NoSuchProcess as error:
        raise StateChangedError(f"process {pid} is gone") from error
