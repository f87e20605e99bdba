"""Who supervises a process, as its ancestry tells it: shared by the managers' classifiers.

Only the facts of the snapshot are looked at. What a supervisor says of the process is asked by the
classifier of that supervisor, and nowhere else.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from resolver.host import trust
from resolver.host.files import text_of
from resolver.host.processes import descendants
from resolver.model import UNATTENDED, Command
from resolver.programs import SESSION_HOSTS, known_as

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.model import Container, Holder, Pid, Process, Snapshot

# They start again what they have started; the nearest one above a process is the one to ask.
SUPERVISORS = frozenset(
    {"runsv", "s6-supervise", "supervise", "supervisord", "circusd", "systemd", "launchd"}
)
_TRACKER = "from multiprocessing.resource_tracker import "  # its `-c`


class Supervised(Struct, frozen=True):
    """A holder below the supervisor that is nearest to it.

    `line` runs from the holder's master up to the process that the supervisor itself started.
    """

    supervisor: Process
    line: tuple[Process, ...]

    @property
    def root(self) -> Process:
        """The process that the supervisor itself started."""
        return self.line[-1]


def own_line(holder: Holder, snapshot: Snapshot) -> tuple[Process, ...]:
    """The holder's master and the processes above it that work for it alone.

    It ends below the first supervisor and below whatever hosts other people's work (sshd, cron,
    tmux, …): who stops what is above them stops more than the holder.
    """
    return () if holder.master is None else (holder.master, *_alone(holder.master, snapshot))


def _alone(master: Process, snapshot: Snapshot) -> Iterator[Process]:
    for identity in master.ancestors:
        found = snapshot.process(identity)
        if found is None or found.pid == 1 or is_supervisor(found):
            return
        if known_as(found, SESSION_HOSTS):
            return
        yield found


def supervised(holder: Holder, snapshot: Snapshot, names: frozenset[str]) -> Supervised | None:
    """The holder below its nearest supervisor, where that is one of `names`; else None.

    None, too, where the caller itself runs in that service: stopping it would end the caller.
    """
    line = own_line(holder, snapshot)
    if not line or line[-1].identity in snapshot.own:
        return None
    supervisor = snapshot.process(line[-1].parent)
    if supervisor is None or not known_as(supervisor, names):
        return None
    return Supervised(supervisor, line)


def is_supervisor(process: Process) -> bool:
    """Whether this is a program that starts again what it has started."""
    return known_as(process, SUPERVISORS) or process.name.startswith(("PM2 ", "pm2 "))


def others_below(top: Process, line: Iterable[Process], holder: Holder) -> list[Pid]:
    """Who else descends from a process that is above the holder by way of `line`.

    What the holder itself has started goes with it, or not, as it would anyway; a helper of
    Python's multiprocessing ends with whom it helps.
    """
    known = {process.pid for process in (*line, *holder.processes)}
    below = {pid for process in holder.processes for pid in descendants(process.pid)}
    others = sorted(descendants(top.pid) - known - below)
    return [pid for pid in others if _TRACKER not in text_of(f"/proc/{pid}/cmdline")]


def service_directory(found: Supervised, snapshot: Snapshot) -> str | None:
    """The service directory of a supervisor of the daemontools family; None where it is hidden.

    It is the supervisor's working directory. Where that is hidden from this user, its argument
    tells it, alone or below the directory that the parent scans.
    """
    supervisor = found.supervisor
    if supervisor.cwd:
        return supervisor.cwd
    argument = supervisor.command[-1] if len(supervisor.command) > 1 else ""
    parent = snapshot.process(supervisor.parent)
    scanned = (word for word in parent.command[1:] if word.startswith("/")) if parent else iter(())
    folder = "/" if argument.startswith("/") else next(scanned, None)
    return seen_from(folder, argument) if folder and argument else None


def service_name(folder: str | None) -> str:
    """The last part of a service directory, and `web/log` for the log service of `web`."""
    if folder is None:
        return "of a hidden directory"
    above, name = os.path.split(os.path.normpath(folder))
    return f"{os.path.basename(above)}/log" if name == "log" else name


def seen_from(folder: str, path: str) -> str:
    """A path that a process was given, from its working directory; `./` in front says nothing."""
    while path.startswith("./"):
        path = path[2:].lstrip("/")
    return os.path.join(folder, path)


def tool(name: str, supervisor: Process) -> str:
    """The supervisor's own tool: its name where PATH has it, else its path beside the supervisor.

    What lies beside another user's program is never run.
    """
    if trust.is_installed(name) or supervisor.uid not in trust.trusted_users():
        return name
    words = (supervisor.executable or "", *supervisor.command[:3])
    paths = (f"{os.path.dirname(word)}/{name}" for word in words if word.startswith("/"))
    return next(filter(trust.is_installed, paths), name)


def stop_of_container(paths: str, container: Container) -> tuple[Command, ...]:
    """What stops a container of an engine that was not, or could not be, asked: by its cgroups."""
    if "kubepods" in paths:
        words = ("kubectl", "get", "pods", "-A", "-o", "wide")
        return (Command(words, f"the pod of container {container.name}"),)
    if container.client[0] == "lxc-stop":
        return (Command(container.command("-n"), "stops it with all in it"),)
    if container.client == ("machinectl",):
        why = f"or, where machined does not know it: kill {container.id}"
        return (Command(container.command("stop"), why),)
    if "libpod" in paths:
        container = replace(container, client=("podman",))
    stop = Command(container.command("stop"))
    if container.state != UNATTENDED:
        return (stop,)
    why = "its engine, which can stop it"
    if container.engine_start[0] == "dockerd":
        why += "; no unit of it is known, so with the other options that it had"
    return (Command(container.engine_start, why), stop)
