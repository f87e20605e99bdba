"""A forwarder that outlived its container or its engine: nobody would ever end it.

A docker-proxy is told from a working one by its parent, which is the engine that started it
(libnetwork starts it as its child), and by that engine's own list of containers. While its engine
is there and was not asked, it is left to `protected.py`. A conmon or a rootlessport is one where
its user's podman was asked, has no container for it, and nothing of a container is left: no child,
and nobody else in the network namespace of the child that rootlessport has there.
"""

from __future__ import annotations

import os
from itertools import pairwise
from typing import TYPE_CHECKING

from resolver.host.engine_client import socket_path
from resolver.host.files import namespace_of
from resolver.host.identity import age_seconds
from resolver.host.peer import listener
from resolver.host.podman import NAME
from resolver.host.processes import descendants, pids
from resolver.model import Classification, Kind
from resolver.programs import OUTLIVING, PROXY, works_for_engine
from resolver.settings import COMMAND_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from resolver.model import EngineState, Holder, Process, Snapshot
    from resolver.protocols import CommandRunner

_SETTLED_SECONDS = 60


def classify(holder: Holder, snapshot: Snapshot, _run: CommandRunner) -> Classification | None:
    """A forwarder that forwards to nothing any more."""
    proxy = holder.master
    if proxy is None or holder.container is not None or proxy.name not in OUTLIVING:
        return None
    return (_of_docker if proxy.name == PROXY else _of_podman)(holder, proxy, snapshot)


def _of_docker(holder: Holder, proxy: Process, snapshot: Snapshot) -> Classification | None:
    if not snapshot.engines or snapshot.silent_engine:
        return None
    parent = snapshot.process(proxy.parent)
    if parent is None:
        return None
    if not works_for_engine(parent):
        return _orphan(holder, proxy, f"its engine is gone: its parent is {parent}")
    if _is_settled(proxy) and _was_asked(parent, snapshot):
        return _orphan(holder, proxy, f"{parent} has no container for it")
    return None


def _of_podman(holder: Holder, proxy: Process, snapshot: Snapshot) -> Classification | None:
    engine = next((each for each in snapshot.engines if _is_podman_of(each, proxy)), None)
    if engine is None or not _is_settled(proxy) or not _is_of_this_root(proxy):
        return None
    if proxy.name == "rootlessport":
        empty = not _neighbours(proxy)
    else:  # CRI-O has conmons, too
        command = dict(pairwise(proxy.command)).get("--exit-command", "")
        empty = os.path.basename(command) == NAME and not descendants(proxy.pid)
    return (
        _orphan(holder, proxy, f"{engine.endpoint} has no running container for it")
        if empty
        else None
    )


def _is_podman_of(engine: EngineState, proxy: Process) -> bool:
    """Whether this is the podman of a forwarder's user, and it has answered."""
    named = engine.client[-1:] == (NAME,) and not socket_path(engine.endpoint)
    return named and engine.uid == proxy.uid and engine.answered


def _is_of_this_root(proxy: Process) -> bool:
    """Whether it is no engine's in a container, whose containers no podman here knows."""
    try:
        return os.path.samefile(f"/proc/{proxy.pid}/root", "/")
    except OSError:
        return False


def _neighbours(proxy: Process) -> bool:
    """Whether anybody but rootlessport lives in the network namespaces that it forwards to."""
    family = {proxy.pid, *descendants(proxy.pid)}
    theirs = {namespace_of(pid, "net") for pid in family} - {namespace_of("self", "net")}
    if not theirs or "" in theirs:
        return True
    return any(namespace_of(pid, "net") in theirs for pid in pids() if pid not in family)


def _is_settled(proxy: Process) -> bool:
    """Whether it is old enough: an engine starts it before it lists its container as running."""
    return age_seconds(proxy.identity) > _SETTLED_SECONDS


def _was_asked(engine: Process, snapshot: Snapshot) -> bool:
    """Whether this very engine said which containers it has."""
    return any(
        state.answered
        and not (state.foreign or state.elsewhere)
        and (path := socket_path(state.endpoint))
        and listener(path, COMMAND_TIMEOUT_SECONDS).pid == engine.pid
        for state in snapshot.engines
    )


def _orphan(holder: Holder, proxy: Process, why: str) -> Classification:
    target = dict(pairwise(proxy.command))
    if proxy.name == PROXY:
        inner = f"{target.get('-container-ip', '?')}:{target.get('-container-port', '?')}"
    else:
        inner = f"container {target.get('-n') or 'of podman'}"
    return Classification(
        holder,
        Kind.ORPHAN,
        chain=(str(proxy), f"{inner}, which is gone"),
        evidence=(why, f"no container publishes {holder.binding}"),
        reason=f"{proxy} forwards to {inner}, where no container is any more",
    )
