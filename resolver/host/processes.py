"""Which processes there are, which of them have a name (proc_pid_comm(5)), and who descends."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

from resolver.host.files import namespace_of, read, text_of
from resolver.model import Container, Pid

if TYPE_CHECKING:
    from collections.abc import Iterator


_SHORT_NAME = 15  # TASK_COMM_LEN without its last byte


def pids() -> list[Pid]:
    """Every process that this user may see, in the order of /proc; empty where there is none."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return []
    return [Pid(int(name)) for name in names if name.isdigit()]


def pids_of(name: str) -> list[Pid]:
    """The processes that are called so, threads aside; a name counts up to 15 characters."""
    if sys.platform != "linux":
        found = psutil.process_iter(["name"])
        return [Pid(each.pid) for each in found if each.info["name"] == name]
    wanted = name[:_SHORT_NAME].encode() + b"\n"
    return [pid for pid in pids() if _comm(pid) == wanted]


def name_of(pid: Pid) -> str:
    """What a process is called, up to 15 characters; `?` where it has gone."""
    return _comm(pid).decode(errors="replace").rstrip("\n") or "?"


def runs_here(container: Container) -> bool:
    """Whether the engine's number of the main process is one of ours: it is in the container, too.

    podman's command line has only such numbers; a rootless container may have no cgroup of its own.
    """
    paths = text_of(f"/proc/{container.main_pid}/cgroup")
    return bool(paths) if container.by_command else container.id in paths


def conmon_of(container: Container) -> Pid | None:
    """What watches over a container of podman's; None where that is not known.

    podman's command line says so. Its API does not: there it is the parent of the main process, and
    its command line has the container's whole id (conmon(8)).
    """
    if container.conmon_pid:
        return Pid(container.conmon_pid)
    try:
        parent = psutil.Process(container.main_pid).parent() if container.main_pid else None
        if parent is not None and container.id in parent.cmdline():
            return Pid(parent.pid)
    except (psutil.Error, ValueError):
        pass
    return None


def _comm(pid: Pid) -> bytes:
    try:
        return read(f"/proc/{pid}/comm")
    except OSError:  # gone
        return b""


def descendants(pid: Pid) -> frozenset[Pid]:
    """Every living process below `pid`, at this moment; zombies have ended and do not count."""
    return frozenset(children(pid, recursive=True))


def children(pid: Pid, *, recursive: bool = False) -> list[Pid]:
    """Its living children; `recursive`: and theirs, and so on."""
    found = []
    with suppress(psutil.Error):
        for each in psutil.Process(pid).children(recursive):
            with suppress(psutil.Error):
                if each.status() != psutil.STATUS_ZOMBIE:
                    found.append(Pid(each.pid))
    return found


def one_of_each_namespace() -> Iterator[Pid]:
    """A process of every network namespace but ours; others' are hidden from a mere user."""
    seen = {"", namespace_of("self", "net")}
    for pid in pids() if len(seen) > 1 else ():
        namespace = namespace_of(pid, "net")
        if namespace not in seen:
            seen.add(namespace)
            yield pid
