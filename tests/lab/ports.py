"""Ports for tests: each xdist worker has a range of its own, below the ephemeral range.

The range also depends on the run, so that two runs on one machine seldom meet.
"""

from __future__ import annotations

import itertools
import os
import socket
import zlib
from pathlib import Path

_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_RUN = zlib.crc32(os.environ.get("PYTEST_XDIST_TESTRUNUID", "").encode()) % 5
_SPAN = 500
_FIRST = 11_000 + _RUN * 4_000 + _WORKER % 8 * _SPAN
_NEXT = itertools.cycle(range(_FIRST, _FIRST + _SPAN))


def is_free(port: int, transport: str = "tcp") -> bool:
    """True where 0.0.0.0 and [::] can both be bound plainly."""
    kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        with socket.socket(family, kind) as probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True


def is_served(port: int) -> bool:
    """Whether a TCP socket listens on the port here (proc_net_tcp(5)).

    To bind it, as `is_free` does, might take it from whoever is just about to.
    """
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text(encoding="ascii").splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == "0A" and int(local.rpartition(":")[2], 16) == port:
                return True
    return False


def listens(port: int) -> bool:
    """Whether somebody accepts on 127.0.0.1; what merely keeps the port does not."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """The next port of this worker's range that is free for tcp and udp."""
    return next(port for port in _NEXT if is_free(port) and is_free(port, "udp"))


def free_range(count: int) -> int:
    """The first of `count` consecutive free ports of this worker's range."""
    while True:
        first = free_port()
        ports = range(first, first + count)
        if first + count <= _FIRST + _SPAN and all(is_free(p) and is_free(p, "udp") for p in ports):
            for _ in range(count - 1):
                next(_NEXT)
            return first
