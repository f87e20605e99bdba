"""Whether the ports that an engine publishes are in the network namespace that we look at.

They are not where this command runs in a container that has only the engine's socket (a CI runner),
nor where the engine is another machine's.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from resolver.errors import StateChangedError
from resolver.gather.engines import in_container, own_container_id
from resolver.gather.processes import ancestors_of
from resolver.host.engine_client import socket_path
from resolver.host.files import namespace_of
from resolver.host.identity import identify, proc_is_ours
from resolver.host.peer import listener
from resolver.host.processes import name_of
from resolver.model import meets_any
from resolver.programs import ENGINES, RELAYS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolver.model import Container, Pid, PortRequest, Socket

_CONNECT_SECONDS = 0.2
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def elsewhere(
    endpoint: str,
    containers: Sequence[Container],
    sockets: Iterable[Socket],
    requests: Sequence[PortRequest] | None,
) -> str | None:
    """Why the engine's published ports are not ours; None where they are, for all we know.

    `sockets` are those in our namespace on the requested ports.
    """
    path = socket_path(endpoint)
    if path is not None:
        same = _same_namespace(path)
        if same is not None:
            return None if same else "the engine has another network namespace"
    elif away := _far_away(endpoint):
        return away
    own = own_container_id()
    home = next((container for container in containers if container.id == own), None)
    if home is not None and not home.network_mode.startswith("container:"):
        if home.network_mode == "host":
            return None
        return f"this command runs in container {home.name}, which has a network of its own"
    if in_container() or path is None:
        return _missing(containers, sockets, requests)
    return None


def _same_namespace(path: str) -> bool | None:
    """Whether the socket's listener is in our network namespace (network_namespaces(7)).

    A rootless engine is in one of its own, and rootlesskit above it, in ours, forwards its ports.
    None where the listener cannot be looked at: it is another user's, or in another PID namespace.
    """
    pid = listener(path, _CONNECT_SECONDS).pid
    return _shares_ours(pid) if pid else None


def is_engine_of_ours(path: str) -> bool:
    """Whether an engine listens at the socket whose published ports are ours beyond doubt.

    A relay that others answer through is none. In a container there may be relays of any name
    before the host's engine, so the listener has to be known as an engine there, or be systemd,
    which starts one.
    """
    pid = listener(path, _CONNECT_SECONDS).pid
    if not pid or not _shares_ours(pid):
        return False
    name = name_of(pid)
    if own_container_id() is not None:
        return name in ENGINES | {"systemd"}
    return name not in RELAYS | {"sshd", "sshd-session"}


def _shares_ours(pid: Pid) -> bool | None:
    if not proc_is_ours():
        return None
    ours, its = namespace_of("self", "net"), namespace_of(pid, "net")
    if not (ours and its):
        return None
    if its == ours:
        return True
    try:
        above = [each.pid for each in ancestors_of(identify(pid))]
    except StateChangedError:
        return None
    above = [each for each in above if name_of(each) == "rootlesskit"]
    return any(namespace_of(each, "net") == ours for each in above)


def _far_away(endpoint: str) -> str | None:
    """Why the endpoint is not this machine's; None where it may be."""
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    if not host or host in _LOOPBACK or _is_our_address(host):
        return None
    return f"the engine is at {host}"


def _is_our_address(host: str) -> bool:
    """Whether a datagram socket can have this address: only the machine's own can be bound."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True


def _missing(
    containers: Sequence[Container],
    sockets: Iterable[Socket],
    requests: Sequence[PortRequest] | None,
) -> str | None:
    """A running container's published port that nobody has a socket for here is not here."""
    here = {entry.binding for entry in sockets}
    missing = [
        binding
        for container in containers
        if container.state == "running"
        for binding in container.published
        if binding not in here and meets_any(requests, binding)
    ]
    return f"{missing[0]} is published, and has no socket here" if missing else None
