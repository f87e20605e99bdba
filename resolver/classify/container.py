"""Containers: published ports, host networks, shared network namespaces, compose services."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.ancestry import stop_of_container
from resolver.model import UNATTENDED, Classification, Confidence, Kind, Respawn, SocketState
from resolver.model.compose_labels import PROJECT
from resolver.programs import works_for_engine

if TYPE_CHECKING:
    from resolver.model import Container, Holder, Snapshot
    from resolver.protocols import CommandRunner

# What each restart policy does after `docker stop` (Docker docs, "Start containers automatically")
_POLICIES = {
    "always": "it stays stopped until the engine or the machine restarts",
    "unless-stopped": "it stays stopped",
    "on-failure": "it stays stopped until the engine or the machine restarts",
}
# The same of `podman stop` (podman-run(1), --restart; podman-restart.service)
_PODMAN_POLICIES = {
    "always": "it stays stopped until the next boot, when podman-restart.service, where that is "
    "enabled, starts it",
    "unless-stopped": "it stays stopped",
    "on-failure": "it stays stopped",
}


def classify(holder: Holder, snapshot: Snapshot, _run: CommandRunner) -> Classification | None:
    """A holder that an engine knows as a container; killing its processes would not end it."""
    container = holder.container
    if container is None:
        return None
    known = bool(container.engine)
    paths = " ".join(path for process in holder.processes for path in process.cgroups)
    return Classification(
        holder,
        Kind.CONTAINER,
        respawn=_respawn(container) if known else Respawn.UNKNOWN,
        confidence=Confidence.CONFIRMED if known else Confidence.SUSPECTED,
        chain=_chain(holder, container),
        evidence=_evidence(holder, container, snapshot),
        reason=_reason(container, snapshot),
        commands=() if known else stop_of_container(paths, container),
        spared=_spared(container, snapshot),
        restart=_restart(container) if known else "",
    )


def _spared(container: Container, snapshot: Snapshot) -> str:
    """Why it is to be left alone: another machine's, or of the project that this command runs in.

    A runner's engine is next door by design; a remote one that a developer's context points to may
    well be the production's.
    """
    if container.engine in snapshot.engines_elsewhere and not snapshot.contained:
        return f"its engine {container.engine} is not this machine's"
    own = snapshot.home
    project = own.label(PROJECT) if own else None
    if own is None or project is None or own.engine != container.engine:
        return ""
    if container.label(PROJECT) != project:
        return ""
    return f"this command runs in {own.name}, of the same compose project {project}"


def _respawn(container: Container) -> Respawn:
    return Respawn.NO if container.restart_policy == "no" else Respawn.YES


def _reason(container: Container, snapshot: Snapshot) -> str:
    if container.engine:
        return f"{container.title} ({container.image})"
    for engine in snapshot.engines:
        if engine.error and engine.client == container.client and engine.client[-1] == "podman":
            return f"it runs in container {container.name}; whose it is: {engine.error}"
    if container.state == UNATTENDED:
        return f"it runs in container {container.name}, whose engine does not answer"
    return f"it runs in container {container.name}, of which no engine here knows"


def _chain(holder: Holder, container: Container) -> tuple[str, ...]:
    links = [str(holder.master)] if holder.master else []
    links.append(container.title)
    if container.compose:
        links.append(container.compose)
    if container.restart_policy != "no":
        links.append(f"restart: {container.restart_policy}")
    return tuple(links)


def _evidence(holder: Holder, container: Container, snapshot: Snapshot) -> tuple[str, ...]:
    found = []
    if holder.binding in container.published:
        found.append(f"{container.engine} says that {container.name} publishes {holder.binding}")
    if holder.master and works_for_engine(holder.master):
        found.append(f"{holder.master} forwards it for the engine, and is left alone")
    elif holder.master:
        where = "below its conmon" if container.by_command else "in the container's cgroup"
        found.append(f"{holder.master} is {where}, on the host's network")
    if holder.state is SocketState.PUBLISHED:
        found.append(_no_socket(container, snapshot))
    if container.state in {"paused", "restarting"}:
        found.append(f"the container is {container.state}, and keeps its ports")
    if _respawn(container) is Respawn.YES:
        found.append(_restart(container))
    return tuple(found)


def _restart(container: Container) -> str:
    """Its restart policy, and what that comes to after a stop."""
    policies = _PODMAN_POLICIES if container.by_command else _POLICIES
    after = policies.get(container.restart_policy.partition(":")[0])
    return f"restart policy {container.restart_policy}" + (f": {after}" if after else "")


def _no_socket(container: Container, snapshot: Snapshot) -> str:
    for engine in snapshot.engines:
        if engine.endpoint == container.engine and engine.elsewhere:
            return f"the port is on the engine's host, not in this namespace ({engine.elsewhere})"
    return "no socket in this namespace: the engine's packet filter forwards the port"
