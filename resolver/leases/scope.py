"""Scopes: which ports are meant when a port number is reserved.

`host:NAME` are the ports of a machine's first network namespace, over all its boots;
`net:BOOT:NUMBER` those of another network namespace (a container's, `unshare -n`), which ends with
the boot at the latest; `engine:ID` the ports that an engine's host publishes for it.
"""

from __future__ import annotations

import hashlib
import platform
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.errors import EngineError, UsageError
from resolver.gather.engines import chosen_engine
from resolver.host import machine
from resolver.host.engine_client import EngineClient
from resolver.settings import HOST_VARIABLE, SCOPE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

MACHINE, ENGINE = "machine", "engine"
_IDS = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))  # machine-id(5)
# Only the first network namespace shows the settings that hold for the whole machine
# (net_core_table in Linux's net/core/sysctl_net_core.c)
_MACHINE_WIDE = Path("/proc/sys/net/core/netdev_max_backlog")
_SO_NETNS_COOKIE = 71  # asm-generic/socket.h, Linux 5.14: unlike an inode it is never used again
_ENGINE_SECONDS = 2.0


def current(environ: Mapping[str, str], wanted: str = "") -> str:
    """The scope of this call.

    Args:
        environ: `ULTRA_PORTS_SCOPE` and `ULTRA_PORTS_HOST`, and where the engine is.
        wanted: `machine` or `engine`; empty for the environment's choice, or `machine`.

    Raises:
        UsageError: there is no such kind of scope.
        EngineError: the engine that is asked for does not answer.
    """
    return engine_scope() if kind(environ, wanted) == ENGINE else machine_scope(environ)


def kind(environ: Mapping[str, str], wanted: str = "") -> str:
    """Which kind of scope is meant; nobody is asked.

    Raises:
        UsageError: there is no such kind.
    """
    chosen = wanted or environ.get(SCOPE_VARIABLE, "") or MACHINE
    if chosen not in {MACHINE, ENGINE}:
        raise UsageError(f"{chosen!a} is no scope: it is {MACHINE} or {ENGINE}")
    return chosen


def machine_scope(environ: Mapping[str, str]) -> str:
    """The ports of the network namespace that this process is in."""
    if sys.platform != "linux" or _MACHINE_WIDE.exists():
        return host_scope(environ)
    found = machine.this_machine()
    return f"net:{found.boot}:{_cookie() or found.network_namespace}"


def host_scope(environ: Mapping[str, str]) -> str:
    """The ports of this machine's first network namespace."""
    return f"host:{environ.get(HOST_VARIABLE, '').strip() or _machine_name()}"


def engine_scope() -> str:
    """The ports that the chosen engine's host publishes.

    Raises:
        EngineError: it does not answer, or not as an engine would.
    """
    chosen = chosen_engine()
    if chosen.error is not None:
        raise EngineError(chosen.error)
    with EngineClient(chosen.endpoint, _ENGINE_SECONDS, chosen.uid) as engine:
        return f"engine:{engine.identity()}"


def _machine_name() -> str:
    """A name made of the machine's id, which is not to be told to others as it is (machine-id(5)).

    A machine without one goes by its host name.
    """
    for path in _IDS:
        try:
            if found := path.read_text(encoding="ascii").strip():
                return hashlib.sha256(f"ultra-ports {found}".encode()).hexdigest()[:16]
        except (OSError, ValueError):
            continue
    return platform.node() or "unknown"


def _cookie() -> int:
    """The network namespace's own number; 0 where the kernel does not tell (before 5.14)."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            raw = any_socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    except OSError:
        return 0
    return int.from_bytes(raw, sys.byteorder)
