"""A docker-proxy that outlived its container or its engine: nobody would ever end it.

It is told from a working one by its parent, which is the engine that started it (libnetwork starts
docker-proxy as its child), and by that engine's own list of containers. While its engine is there
and was not asked, it is left to `protected.py`.
"""

from __future__ import annotations

import os
from itertools import pairwise
from typing import TYPE_CHECKING

from resolver.host.files import read
from resolver.host.peer import listener_pid
from resolver.model import Classification, Kind
from resolver.programs import ENGINES, FORWARDERS, PROXY, known_as
from resolver.settings import COMMAND_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from resolver.model import Holder, Process, Snapshot
    from resolver.protocols import CommandRunner

_SETTLED_SECONDS = 60


def classify(holder: Holder, snapshot: Snapshot, _run: CommandRunner) -> Classification | None:
    """A forwarder that forwards to nothing any more."""
    proxy = holder.master
    if proxy is None or proxy.name != PROXY or holder.container is not None:
        return None
    if not snapshot.engines or any(engine.silent for engine in snapshot.engines):
        return None
    parent = snapshot.process(proxy.parent)
    if parent is None:
        return None
    if not known_as(parent, ENGINES | FORWARDERS):
        return _orphan(holder, proxy, f"its engine is gone: its parent is {parent}")
    if _is_settled(proxy) and _was_asked(parent, snapshot):
        return _orphan(holder, proxy, f"{parent} has no container for it")
    return None


def _is_settled(proxy: Process) -> bool:
    """Whether it is old enough: an engine starts it before it lists its container as running."""
    try:
        uptime = float(read("/proc/uptime").split()[0])
    except (OSError, ValueError):
        return False
    return uptime - proxy.identity.start_time / os.sysconf("SC_CLK_TCK") > _SETTLED_SECONDS


def _was_asked(engine: Process, snapshot: Snapshot) -> bool:
    """Whether this very engine said which containers it has."""
    return any(
        state.asked
        and not state.foreign
        and state.error is None
        and state.elsewhere is None
        and state.endpoint.startswith("unix://")
        and listener_pid(state.endpoint.removeprefix("unix://"), COMMAND_TIMEOUT_SECONDS)
        == engine.pid
        for state in snapshot.engines
    )


def _orphan(holder: Holder, proxy: Process, why: str) -> Classification:
    words = proxy.command
    target = dict(pairwise(words))
    inner = f"{target.get('-container-ip', '?')}:{target.get('-container-port', '?')}"
    return Classification(
        holder,
        Kind.ORPHAN,
        chain=(str(proxy), f"{inner}, which is gone"),
        evidence=(why, f"no container publishes {holder.binding}"),
        reason=f"{proxy} forwards to {inner}, where no container is any more",
    )
