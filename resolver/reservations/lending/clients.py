"""Whose process a request of the portserver protocol is for, judged by the kernel's own word.

The client sends a PID: its own, or that of the shell which asked it to (`python -m portpicker $$`).
The kernel tells who is at the other end of the socket (SO_PEERCRED of unix(7)), so nobody ties a
port to another user's process, and a PID of another PID namespace is not taken for one of ours.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from pathlib import Path

from msgspec import Struct

from resolver.errors import UltraPortsError
from resolver.model import Pid

_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid
_INIT = 1
_DEEPEST = 64  # ancestors that anybody could stand in for


class RefusedError(UltraPortsError):
    """The request is not granted; the message says why."""


class Peer(Struct, frozen=True):
    """The process at the other end of a socket; a PID of 0 is one that cannot be seen from here."""

    pid: Pid
    uid: int


class _Status(Struct, frozen=True):
    """Lines of proc_pid_status(5): `pids` are the PIDs in each PID namespace from ours inwards."""

    parent: Pid
    uids: tuple[int, ...]
    pids: tuple[int, ...]


def peer_of(connection: socket.socket) -> Peer | None:
    """Who is at the other end; None where the system does not say."""
    if sys.platform != "linux":
        return None
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return Peer(Pid(pid), uid)


def process_meant(sent: int, peer: Peer | None) -> Pid:
    """The process, by its PID in our own namespace.

    Raises:
        RefusedError: there is no such process, or the peer may not speak for it.
    """
    if sent <= _INIT:
        raise RefusedError(f"process {sent} gets no port")  # the parent of an orphan, mostly
    if peer is None:
        return _existing(Pid(sent))
    if peer.pid == 0:
        raise RefusedError(f"process {sent}: the client is in another PID namespace")
    status = _status(peer.pid)
    if len(status.pids) > 1:
        return _inside(sent, peer.pid, status)
    wanted = _status(Pid(sent))
    if sent != peer.pid and peer.uid not in {0, *wanted.uids}:
        raise RefusedError(f"process {sent} belongs to another user than process {peer.pid}")
    return Pid(sent)


def _inside(sent: int, pid: Pid, status: _Status) -> Pid:
    """The peer in its container, or the ancestor there, that has the PID which was sent."""
    depth = len(status.pids)
    for _ in range(_DEEPEST):
        if len(status.pids) != depth:
            break
        if status.pids[-1] == sent:
            return pid
        pid, status = status.parent, _status(status.parent)
    raise RefusedError(f"process {sent} of another PID namespace is not above its client there")


def _status(pid: Pid) -> _Status:
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError) as error:
        raise RefusedError(f"process {pid} is gone") from error
    except OSError as error:
        raise RefusedError(f"process {pid} cannot be looked at: {error.strerror}") from error
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    lines.setdefault("NSpid", str(pid))  # Linux before 4.1
    numbers = {name: tuple(map(int, lines[name].split())) for name in ("PPid", "Uid", "NSpid")}
    return _Status(Pid(numbers["PPid"][0]), numbers["Uid"], numbers["NSpid"])


def _existing(pid: Pid) -> Pid:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError) as error:
        raise RefusedError(f"process {pid} is gone") from error
    except PermissionError as error:
        raise RefusedError(f"process {pid} belongs to another user") from error
    return pid
