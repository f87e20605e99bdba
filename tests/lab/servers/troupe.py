"""Processes that do as they are told, at once: they bind, connect, fork, change user, and end.

One process forks all the others, which costs a millisecond each instead of a start of Python.
Orders come over a unix socket, so that every signal in the log was sent by somebody else.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import signal
import socket
import threading
import time
from typing import NoReturn

from tests.lab.servers.common import ENDING, Endpoint, bound, hold_signals, ready, record

PR_SET_DUMPABLE = 4  # prctl(2)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("path", help="the unix socket of whoever gives the orders")
    parser.add_argument("--log")
    options = parser.parse_args()
    hold_signals()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps them all
    ready()
    orders = _connect(options.path, "troupe").makefile()
    while reaction := orders.readline().strip():
        if os.fork() == 0:
            Actor(options.path, options.log, reaction).act()
    os._exit(0)


def _connect(path: str, role: str) -> socket.socket:
    control = socket.socket(socket.AF_UNIX)
    control.connect(path)
    control.sendall(f"{role} {os.getpid()}\n".encode())
    return control


class Actor:
    """One process. `reaction` is what it does on SIGTERM: end, ignore, close, linger or split."""

    def __init__(self, path: str, log: str | None, reaction: str) -> None:
        self.path = path
        self.log = log
        self.reaction = reaction
        self.sockets: list[socket.socket] = []
        self.control = _connect(path, "actor")

    def act(self) -> NoReturn:
        """Obeys until it is told to end, or its director has gone."""
        threading.Thread(target=self._react, daemon=True).start()
        try:
            for line in self.control.makefile():
                order, *words = line.split()
                self._answer(getattr(self, f"do_{order}")(*words) or "ok")
                if order == "halt":
                    os.kill(os.getpid(), signal.SIGSTOP)
        finally:
            os._exit(0)

    def _answer(self, text: str) -> None:
        self.control.sendall(f"{text}\n".encode())

    def _react(self) -> None:
        while True:
            info = signal.sigwaitinfo(ENDING)
            name = signal.Signals(info.si_signo).name
            record(self.log, "actor", name, sender=info.si_pid)
            if self.reaction == "close":
                self.do_close()
            elif self.reaction == "linger":
                time.sleep(0.02)  # the work that it finishes before it ends
                os._exit(0)
            elif self.reaction == "split":
                self._split()
            elif self.reaction == "end":
                os._exit(0)

    def _split(self) -> None:
        """Ends, and leaves a child that still holds the port: what a careless daemon does."""
        if os.fork() == 0:
            self.reaction = "end"
            self._begin_anew()
        os._exit(0)

    def _begin_anew(self) -> NoReturn:
        """The life of a child, with a way of its own to get orders."""
        os.close(self.control.fileno())  # whatever else refers to it: the parent's end must be seen
        self.control = _connect(self.path, "child")
        self.act()

    def do_bind(self, transport: str, address: str, port: str, how: str = "listen") -> str:
        """Takes a port; the answer is `ok` or why not."""
        end = Endpoint(transport, address, int(port), how == "share", listen=how != "bound")
        try:
            self.sockets.append(bound(end))
        except OSError as error:
            return f"errno {error.errno}"
        return "ok"

    def do_connect(self, address: str, port: str) -> None:
        """Becomes a client."""
        self.sockets.append(socket.create_connection((address, int(port)), timeout=5))

    def do_close(self) -> None:
        """Lets go of every port."""
        while self.sockets:
            self.sockets.pop().close()

    def do_fork(self) -> str:
        """Has a child that holds the same sockets; the answer is its PID."""
        child = os.fork()
        if child == 0:
            self._begin_anew()
        return str(child)

    def do_become(self, uid: str) -> None:
        """Changes its user for good."""
        os.setresuid(int(uid), int(uid), int(uid))
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # others of that user may look at it

    def do_exit(self) -> None:
        """Ends, and has let go of its ports when it answers."""
        self.do_close()
        with contextlib.suppress(OSError):
            self._answer("ok")
        os._exit(0)

    def do_halt(self) -> None:
        """Is stopped by its own hand, after the answer."""


if __name__ == "__main__":
    main()
