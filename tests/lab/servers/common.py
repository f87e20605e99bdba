"""What every lab server does: bind, answer with its PID, and keep a log of the signals it got.

Signals are blocked and taken with sigwaitinfo(2), which names their sender: a test can tell a
worker that its own master stopped from one that was signalled from outside.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

ENDING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})


class Endpoint(NamedTuple):
    """Where to bind, and how; `dual` lets an IPv6 socket take IPv4 too."""

    transport: str
    address: str
    port: int
    reuseport: bool = False
    dual: bool = False
    listen: bool = True


def bound(endpoint: Endpoint) -> socket.socket:
    """A socket on the endpoint; TCP ones set SO_REUSEADDR, as most servers do."""
    family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
    stream = endpoint.transport == "tcp"
    server = socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
    if stream:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if endpoint.reuseport:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not endpoint.dual))
    server.bind((endpoint.address, endpoint.port))
    if stream and endpoint.listen:
        server.listen(64)
    return server


def answer(server: socket.socket) -> None:
    """Answers every line or datagram with this process's PID, in a thread."""
    stream = server.type == socket.SOCK_STREAM
    _thread(_accept_all if stream else _answer_datagrams, server)


def _accept_all(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:  # closed by another thread
            return
        _thread(_answer_lines, connection)


def _answer_lines(connection: socket.socket) -> None:
    """The client closes first, so that no TIME_WAIT is left on the server's port."""
    with connection, contextlib.suppress(OSError):
        while connection.recv(4096):
            connection.sendall(b"%d\n" % os.getpid())


def _answer_datagrams(server: socket.socket) -> None:
    while True:
        _, client = server.recvfrom(4096)
        server.sendto(b"%d\n" % os.getpid(), client)


def _thread(target: object, *arguments: socket.socket) -> None:
    assert callable(target)
    threading.Thread(target=target, args=arguments, daemon=True).start()


def hold_signals(*more: signal.Signals) -> None:
    """Blocks the ending signals and `more`; call it before the first thread or fork."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {*ENDING, *more})


def begun() -> argparse.Namespace:
    """The `port` and the `--log` of a server that is called with no more; its signals are held."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--log")
    options = parser.parse_args()
    hold_signals()
    return options


def next_signal(
    log: str | None, role: str, *more: signal.Signals, seconds: float | None = None
) -> signal.Signals | None:
    """The next ending signal, or one of `more`; None when `seconds` are over.

    Ending signals go to the log with their sender.
    """
    wanted: Iterable[signal.Signals] = {*ENDING, *more}
    info = signal.sigwaitinfo(wanted) if seconds is None else signal.sigtimedwait(wanted, seconds)
    if info is None:
        return None
    number = signal.Signals(info.si_signo)
    if number in ENDING:
        record(log, role, number.name, sender=info.si_pid)
    return number


def record(log: str | None, role: str, event: str, **facts: int) -> None:
    """Appends one event to the log, in one write."""
    if log is None:
        return
    line = json.dumps({"role": role, "pid": os.getpid(), "event": event, **facts}) + "\n"
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def ready(**facts: object) -> None:
    """Tells the lab that this process is up, in one line of JSON."""
    os.write(1, (json.dumps({"pid": os.getpid(), **facts}) + "\n").encode())
