"""Whether a published port answers from a container; read-only but for a connection.

A userland proxy accepts connections before anything listens in the container, and the kernel
accepts them for a server that is frozen. So the container's own socket table is read as well
(proc_pid_net(5)), where its processes are of this machine: its server has to listen on an address
that can be reached from outside, and to take the connection out of its queue.
"""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from msgspec import Struct

from resolver.gather.engines import container_id_in
from resolver.model import Binding, Transport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.model import Container

_PATIENCE_SECONDS = 0.3  # for a proxy to hang up, where nothing listens behind it
_CONNECT_SECONDS = 2.0
_LISTENING, _UNCONNECTED = "0A", "07"
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - connected to, not bound


class PortAnswer(Struct, frozen=True):
    """Whether one published port of one container answers: `good` None where nobody can tell."""

    good: bool | None
    reason: str


class Inside(Struct, frozen=True):
    """What was seen behind a port in its container; `listens` None: nothing could be seen.

    A program that listens has a problem where it takes no connection.
    """

    listens: bool | None
    problem: str = ""


def probe(outer: Binding, target: int, member: Container, host: str = "") -> PortAnswer:
    """Whether the server behind a published port answers.

    Args:
        outer: where the engine publishes it.
        target: the container's own port.
        member: the container.
        host: where the engine's host is to be reached; empty for this machine.
    """
    if outer.transport is Transport.UDP:
        return _probe_udp(target, member)
    answer = _connect(host or _ANY.get(outer.address, outer.address), outer.port)
    if answer is _GREETED:
        return answer
    inside = look_inside(target, member, Transport.TCP)
    if inside.listens is None:
        unseen = f"{answer.reason}; the container could not be looked into"
        return PortAnswer(good=answer.good, reason=unseen)
    return PortAnswer(good=False, reason=inside.problem) if inside.problem else answer


def _connect(host: str, port: int) -> PortAnswer:
    """What a client meets that connects, says nothing, and waits for a moment."""
    try:
        with socket.create_connection((host, port), timeout=_CONNECT_SECONDS) as client:
            client.settimeout(_PATIENCE_SECONDS)
            try:
                return _GREETED if client.recv(1) else _HUNG_UP
            except TimeoutError:
                return PortAnswer(good=True, reason="accepts connections")
    except ConnectionResetError:
        return _HUNG_UP
    except OSError as error:
        return PortAnswer(good=False, reason=f"no connection: {error.strerror or error}")


_HUNG_UP = PortAnswer(good=False, reason="each connection is closed at once")
_GREETED = PortAnswer(good=True, reason="accepts connections, and greets")


def _probe_udp(target: int, member: Container) -> PortAnswer:
    inside = look_inside(target, member, Transport.UDP)
    if inside.listens is None:
        return PortAnswer(good=None, reason="UDP: only a look into the container could tell")
    reason = inside.problem or "a socket is bound in the container"
    return PortAnswer(good=inside.listens, reason=reason)


def look_inside(target: int, member: Container, transport: Transport) -> Inside:
    """Whether a program in the container serves one of its ports, for clients outside."""
    found = listeners(member, target, transport)
    if found is None:
        return Inside(None)
    if not found:
        verb = "listens" if transport is Transport.TCP else "is bound"
        why = f"nothing {verb} on {target}/{transport} in the container"
        return Inside(listens=False, problem=why)
    if all(address in {"127.0.0.1", "::1"} for address, _ in found):
        why = (
            f"it listens on {found[0][0]} in the container, which nobody outside can reach: "
            "0.0.0.0 is wanted"
        )
        return Inside(listens=False, problem=why)
    waiting = max(queue for _, queue in found) if transport is Transport.TCP else 0
    if not waiting:
        return Inside(listens=True)
    why = (
        f"something listens on {target}/tcp in {member.name} and takes no connection "
        f"({waiting} wait): {_why_frozen(member)}"
    )
    return Inside(listens=True, problem=why)


def _why_frozen(member: Container) -> str:
    """Why a container's program takes no connection."""
    if member.state == "paused":
        return "the container is paused"
    with suppress(psutil.Error):
        if psutil.Process(member.main_pid).status() == psutil.STATUS_STOPPED:
            return f"its process {member.main_pid} is stopped"
    return "it is busy or frozen"


def listeners(member: Container, target: int, transport: Transport) -> list[tuple[str, int]] | None:
    """The addresses on which a port is served in a container's network namespace.

    Beside each is how many connections wait there to be accepted. None: that cannot be seen.

    The PID is the engine's: it counts only where that process, here, is in the container's cgroup.
    """
    if sys.platform != "linux" or not member.main_pid:
        return None
    process = Path(f"/proc/{member.main_pid}")
    try:
        cgroup = (process / "cgroup").read_text(errors="replace")
        if container_id_in(cgroup) != member.id:
            return None
        tables = [(process / "net" / f"{transport}{six}") for six in ("", "6")]
        lines = [
            line
            for table in tables
            if table.exists()
            for line in table.read_text(encoding="ascii", errors="replace").splitlines()[1:]
        ]
    except OSError:
        return None
    state = _LISTENING if transport is Transport.TCP else _UNCONNECTED
    return [found for line in lines for found in _serving(line, target, state)]


def _serving(line: str, target: int, state: str) -> Iterator[tuple[str, int]]:
    """`sl local_address rem_address st tx_queue:rx_queue …`; for a listener rx is its backlog."""
    fields = line.split()
    if len(fields) < 5 or fields[3] != state:  # noqa: PLR2004
        return
    address, _, port = fields[1].rpartition(":")
    if int(port, 16) == target:
        yield _decoded(address), int(fields[4].rpartition(":")[2], 16)


def _decoded(digits: str) -> str:
    """An address as the kernel prints it: 32-bit words in the machine's own byte order."""
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    raw = struct.pack(f"={len(words)}I", *words)
    if len(words) == 1:
        return str(IPv4Address(raw))
    address = IPv6Address(raw)
    return str(address.ipv4_mapped or address)
