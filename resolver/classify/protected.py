"""What is never ended, whatever it holds: engines, lone forwarders, sshd and their like."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from resolver.host import trust
from resolver.host.engine_client import socket_path
from resolver.host.peer import listener
from resolver.model import Classification, Command, Confidence, Kind, Respawn
from resolver.programs import ENGINES, FORWARDERS, PROXY, SYSTEM, known_as, works_for_engine
from resolver.settings import COMMAND_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from resolver.model import Holder, Process, Snapshot
    from resolver.protocols import CommandRunner

_UNIX = "unix://"
SD_BOOTED = "/run/systemd/system"


def classify(holder: Holder, snapshot: Snapshot, _run: CommandRunner) -> Classification | None:
    """A holder that stays. Where an engine did not answer, what it forwards is not known.

    A systemd manager holds sockets for its units, so `systemd.py` is asked about it first.
    """
    for process in holder.processes:
        if works_for_engine(process):
            return _engines_own(holder, process, snapshot)
        if process.pid > 1 and process.name != "systemd" and known_as(process, SYSTEM):
            return _system(holder, process)
    return None


def _engines_own(holder: Holder, process: Process, snapshot: Snapshot) -> Classification:
    parent = snapshot.process(process.parent)
    if process.name == PROXY and parent and _answers_nowhere(parent, snapshot):
        return _of_another_engine(holder, process, parent)
    troubled = (engine for engine in snapshot.engines if not engine.unremarkable)
    error = next((engine.error for engine in troubled if engine.error), None)
    if not snapshot.engines:
        error = "no engine was asked"
    published = f"{holder.binding.port}/{holder.binding.transport}"
    what = "forwards" if known_as(process, FORWARDERS) else "holds"
    reason = f"{process} {what} this port for a container engine, and no container owns up to it"
    if error:
        reason = f"{process} {what} this port for a container engine; which container: {error}"
    return Classification(
        holder,
        Kind.UNKNOWN if snapshot.silent_engine else Kind.FORWARDER,
        respawn=Respawn.UNKNOWN,
        confidence=Confidence.SUSPECTED,
        chain=(str(process), "a container"),
        evidence=(f"command line: {process.command_line}",) if process.command else (),
        reason=reason,
        commands=(
            Command(
                ("docker", "ps", "--filter", f"publish={published}"),
                "names it, once the engine answers" if error else "it names none so far",
            ),
        ),
    )


def _answers_nowhere(parent: Process, snapshot: Snapshot) -> bool:
    """Whether a proxy's engine is another one than those that answered.

    systemd may have made an engine's socket, and listens in its place (systemd.socket(5)).
    """
    answered = (socket_path(each.endpoint) for each in snapshot.engines if each.answered)
    paths = list(filter(None, answered))
    if not known_as(parent, ENGINES) or not paths or snapshot.silent_engine:
        return False
    listeners = {listener(path, COMMAND_TIMEOUT_SECONDS).pid for path in paths}
    return listeners.isdisjoint({parent.pid, 0, 1, None})


def _of_another_engine(holder: Holder, proxy: Process, parent: Process) -> Classification:
    command = parent.command_line
    return Classification(
        holder,
        Kind.FORWARDER,
        respawn=Respawn.UNKNOWN,
        confidence=Confidence.SUSPECTED,
        chain=(str(parent), str(proxy), "a container"),
        evidence=(f"command line of {parent}: {command}",),
        reason=f"{proxy} forwards this port for {parent} ({command}), "
        "which is not the engine that answers",
        commands=(_its_client(holder, parent),),
    )


def _its_client(holder: Holder, engine: Process) -> Command:
    """The command of that engine's installation (snapcraft.io/docker; docker.com's archives)."""
    binding = holder.binding
    listing = ("ps", "--filter", f"publish={binding.port}/{binding.transport}")
    program = engine.executable or ""
    if program.startswith("/snap/"):
        return Command(("sudo", "snap", "run", "docker", *listing), "if its socket is its own")
    hosts = [word[word.index(_UNIX) :] for word in engine.command if _UNIX in word]
    host = hosts[0] if hosts else f"{_UNIX}/var/run/docker.sock"  # dockerd(8), --host
    client = f"{os.path.dirname(program)}/docker"
    docker = client if trust.is_installed(client) else "docker"
    if listener(host.removeprefix(_UNIX), COMMAND_TIMEOUT_SECONDS).pid not in {engine.pid, 1}:
        why = f"names its unit, which has to be restarted: another engine answers at {host}"
        return Command(("systemctl", "status", str(engine.pid)), why)
    return Command((docker, "-H", host, *listing), "names it")


def _system(holder: Holder, process: Process) -> Classification:
    """Where systemd runs (sd_booted(3)), it names the unit; nothing else is advised."""
    see = Command(("systemctl", "status", str(process.pid)), "names its unit, if it has one")
    return Classification(
        holder,
        Kind.PROTECTED,
        respawn=Respawn.UNKNOWN,
        chain=(str(process),),
        reason=f"{process} is part of the system, and is never ended from here: the way into this "
        "machine, or what others need, may be lost with it",
        commands=(see,) if os.path.isdir(SD_BOOTED) else (),
    )
