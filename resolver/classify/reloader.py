"""Reloaders and loops: a parent that starts the holder again, and is ended with it.

Suspected from the parent's command line (nodemon, `node --watch`, watchmedo, a shell loop) or from
the mark that Django leaves in its child's environment; or known by observation: what took a port
back in this very run, and the process that both it and the one ended before descend from. Confirmed
by the kernel: a parent with other children is not ended, since they would suffer, nor is one that
is not the caller's to end.
"""

from __future__ import annotations

import os
import re
from itertools import pairwise
from typing import TYPE_CHECKING

from resolver.ancestry import others_below
from resolver.host import jobs
from resolver.model import Classification, Command, Confidence, Kind, PortRequest, Respawn
from resolver.programs import (
    STARTERS,
    UWSGI,
    is_fork,
    is_interactive,
    is_shell,
    is_wrapper,
    known_as,
    names_of,
    untouchable,
)

if TYPE_CHECKING:
    from resolver.model import Holder, Process, Snapshot
    from resolver.protocols import CommandRunner

_NEAR = 4  # so many parents are looked at: nodemon → sh -c → node
_FAR = 12  # and so many where it was seen: loop → npm → sh → npm → sh → npm → sh → node
_WATCHERS = frozenset(
    {"nodemon", "watchmedo", "watchfiles", "watchexec", "cargo-watch", "entr", "air", "reflex",
     "ts-node-dev", "node-dev", "wgo"}
)  # fmt: skip
# Programs that watch only when they are told to. uvicorn, gunicorn and Werkzeug keep the socket
# open in the parent, which makes it the master of its children: they need no mention.
_FLAGGED = {"node": {"--watch"}, "tsx": {"watch"}, "dotnet": {"watch"}}
# They keep workers that multiprocessing has spawned: the nanny of `dask worker`
_NANNIES = frozenset({"dask", "dask-worker", "dask_worker"})
# What uWSGI's emperor passes to those whose configuration it found
_VASSAL = "UWSGI_EMPEROR_FD"
_LOOP = r"(?s)(?:^|[;&|({\n]|\bthen\b)\s*(?:while|until|for)\b.+?\bdo\b(.+)\bdone\b"
_COMMAND_OPTION = r"-[a-z]*c"
_BETWEEN_WORDS = r"[\s;&|]+"


def classify(holder: Holder, snapshot: Snapshot, _run: CommandRunner) -> Classification | None:
    """A holder whose parent starts it again."""
    master = holder.master
    if master is None:
        return None
    near = [process for process in snapshot.above(master) if process.pid > 1]
    observed = _observed(master, near, snapshot)
    respawner = observed or _suspected(master, near[:_NEAR])
    if respawner is None:
        return None
    line = near[: near.index(respawner) + 1][::-1]
    how = "observed" if observed else "its command line"
    return _judged(holder, snapshot, tuple(line), how)


def _observed(master: Process, near: list[Process], snapshot: Snapshot) -> Process | None:
    """The nearest process above both this holder and one that was ended earlier in this run."""
    if master.identity in {ended.identity for ended in snapshot.ended}:
        return None
    earlier = {identity for ended in snapshot.ended for identity in ended.ancestors[:_FAR]}
    return next((process for process in near[:_FAR] if process.identity in earlier), None)


def _suspected(master: Process, near: list[Process]) -> Process | None:
    """The nearest parent that is known to start its child again, with only wrappers in between."""
    for process in near:
        if _reloads(process, master) or _is_twin(process, master):
            return process
        if not is_shell(process) and not is_wrapper(process):
            return None
    return None


def _reloads(process: Process, master: Process) -> bool:
    words = [word.rsplit("/", 1)[-1] for word in process.command]
    names = names_of(process).union(words[:4])
    if not _WATCHERS.isdisjoint(names):
        return True
    if is_shell(process):
        return _loops(process.command, master)
    if known_as(process, UWSGI):
        return known_as(master, UWSGI) and master.variable(_VASSAL) is not None
    if known_as(process, _NANNIES):
        return "--multiprocessing-fork" in master.command
    return any(not flags.isdisjoint(words) for name, flags in _FLAGGED.items() if name in names)


def _loops(command: tuple[str, ...], master: Process) -> bool:
    """Whether a shell was given a loop around the holder's own command.

    A script's text is not read: scripts are judged by observation.
    """
    given = (text for flag, text in pairwise(command) if re.fullmatch(_COMMAND_OPTION, flag))
    loop = re.search(_LOOP, next(given, ""))
    if loop is None:
        return False
    body = re.split(_BETWEEN_WORDS, loop[1])
    return any(word in body for word in master.command if len(word) > 1)


def _is_twin(process: Process, master: Process) -> bool:
    """Django and Werkzeug start themselves once more, and mark the child in its environment."""
    marked = "true" in {master.variable("RUN_MAIN"), master.variable("WERKZEUG_RUN_MAIN")}
    return marked and process.command[1:] == master.command[1:]


def _judged(
    holder: Holder, snapshot: Snapshot, line: tuple[Process, ...], how: str
) -> Classification:
    respawner = line[0]
    keep = _why_not(holder, snapshot, line)
    chain = (*(str(process) for process in line), str(holder.master))
    evidence = f"{respawner} starts it again ({how}: {respawner.command_line})"
    if keep is None:
        return Classification(
            holder,
            Kind.LOCAL,
            respawn=Respawn.YES,
            chain=chain,
            evidence=(evidence,),
            reason=f"process {holder.master}, which {respawner} starts again, ended with it",
            restart=f"{respawner} starts it again, and is ended with it",
            respawners=line,
        )
    return Classification(
        holder,
        Kind.SERVICE,
        respawn=Respawn.YES,
        confidence=Confidence.CONFIRMED if how == "observed" else Confidence.SUSPECTED,
        chain=chain,
        evidence=(evidence, keep),
        reason=f"{respawner} starts {holder.master} again, and {keep}",
        commands=() if untouchable(respawner) else _ways(holder, snapshot, line),
    )


def _ways(holder: Holder, snapshot: Snapshot, line: tuple[Process, ...]) -> tuple[Command, ...]:
    """What ends the loop. A shell at work for its user ignores SIGTERM; its subshell does not."""
    respawner = line[0]
    child = line[1] if len(line) > 1 else holder.master
    if child and known_as(respawner, UWSGI) and (ended := _without_its_file(respawner, child)):
        return (ended,)
    kill = Command(("kill", str(respawner.pid)), "or Ctrl-C where it runs")
    if child is None or not (is_shell(respawner) and is_interactive(respawner)):
        return (kill,)
    is_subshell = jobs.group(child.pid) == jobs.group(respawner.pid)
    if is_subshell and is_fork(respawner, snapshot.process(respawner.parent)):
        port = str(PortRequest(holder.binding.port, holder.binding.transport))
        again = Command(("ultra-ports", "resolve", port), "ends its server, which lives on")
        return Command(kill.argv, "ends the loop, which is a subshell"), again
    why = "ends that shell and its terminal, or Ctrl-C there while the loop sleeps"
    return (Command(("kill", "-HUP", str(respawner.pid)), why),)


def _without_its_file(emperor: Process, vassal: Process) -> Command | None:
    """What makes an emperor end one vassal (uwsgi-docs, "The uWSGI Emperor"): its file goes.

    An emperor works in the directory where these files are. Whoever runs it chooses that directory,
    and a vassal its own words: only an emperor of ours is believed, and another user's vassal no
    further than the name of a file there.
    """
    name = next((word for word in vassal.command[1:] if not word.startswith("-")), None)
    if not name or not emperor.cwd or emperor.uid != os.geteuid():
        return None
    if vassal.uid != emperor.uid and os.sep in name:
        return None
    path = os.path.join(emperor.cwd, name)
    return Command(("mv", path, f"{path}.off"), "its emperor ends it, and it alone")


def _why_not(holder: Holder, snapshot: Snapshot, line: tuple[Process, ...]) -> str | None:
    """Why the respawner is not ended from here; None where it may be."""
    respawner = line[0]
    if respawner.identity in snapshot.own:
        return f"{respawner} also started this command"
    if is_shell(respawner) and is_interactive(respawner) and respawner.on_terminal:
        return f"{respawner} is somebody's shell: it is a loop in that terminal"
    if is_interactive(respawner) or known_as(respawner, STARTERS):
        return f"{respawner} is somebody's shell, terminal or tool"
    if untouchable(respawner):
        return f"{respawner} is never ended from here"
    if others := others_below(respawner, line, holder):
        return f"{respawner} has other children, which would suffer: {', '.join(map(str, others))}"
    return None
