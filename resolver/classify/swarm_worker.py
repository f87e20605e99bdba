"""A port of Swarm's routing mesh on a worker: dockerd itself listens, and knows no service.

`docker info` says that this node is a worker, and where its managers are (Engine API, `GET /info`,
SwarmInfo). Services are listed and changed on a manager only
(docs.docker.com/engine/swarm/admin_guide). A manager is asked by `orchestrator.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import CommandFailedError
from resolver.managed import ask_json
from resolver.model import Classification, Command, Confidence, Kind, Respawn
from resolver.programs import known_as

if TYPE_CHECKING:
    from resolver.model import Holder, Snapshot
    from resolver.protocols import CommandRunner

# Management, gossip, overlay networks (docs.docker.com/engine/swarm/swarm-tutorial, "open ports")
_SWARMS_OWN = {2377, 7946, 4789}
_ADDRESS = r"[\w.:\[\]-]+"


class _SwarmManager(Struct, frozen=True, rename="pascal"):
    addr: str = ""


class _Swarm(Struct, frozen=True, rename="pascal"):
    """`Swarm` of `docker info`."""

    local_node_state: str = ""
    control_available: bool = False
    remote_managers: tuple[_SwarmManager, ...] | None = None


def classify(holder: Holder, snapshot: Snapshot, run: CommandRunner) -> Classification | None:
    """A port that dockerd listens on by itself, on a node that manages no swarm."""
    daemon, port = holder.master, holder.binding.port
    if holder.container or daemon is None or not known_as(daemon, frozenset({"dockerd"})):
        return None
    own = any(re.search(rf":{port}\b", word) for word in daemon.command)  # its API, its metrics
    swarm = None if own or port in _SWARMS_OWN else _swarm(snapshot, run)
    if swarm is None:
        return None
    managers = [each.addr for each in swarm.remote_managers or ()]
    known = ", ".join(each for each in managers if re.fullmatch(_ADDRESS, each))
    where = f"on a manager{f' ({known})' if known else ''}"
    how = f"names the service of {port}; there, docker service update --publish-rm takes it off"
    return Classification(
        holder,
        Kind.SERVICE,
        respawn=Respawn.YES,
        confidence=Confidence.SUSPECTED,
        chain=(str(daemon), "routing mesh", "a service of the swarm"),
        evidence=("docker info: this node is a worker, and no container here publishes the port",),
        reason=f"{daemon} probably listens for the routing mesh of a swarm, in which this node is "
        "a worker: a manager knows the service",
        commands=(Command(("docker", "service", "ls"), f"{where}: {how}"),),
    )


def _swarm(snapshot: Snapshot, run: CommandRunner) -> _Swarm | None:
    """What an engine here says of the swarm whose worker it is; None where none is a worker."""
    for engine in snapshot.engines:
        if engine.error is None and not (engine.elsewhere or engine.foreign):
            words = (*engine.client, "info", "--format", "{{json .Swarm}}")
            try:
                found = ask_json(run, words, _Swarm)
            except CommandFailedError:
                continue
            if found.local_node_state == "active" and not found.control_available:
                return found
    return None
