"""Gives orders to processes that were forked in a millisecond: for hundreds of rounds of faults."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.lab.processes import alive, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.processes import Lab


@dataclass
class Actor:
    """One process."""

    pid: int
    control: socket.socket

    def told(self, order: str) -> str:
        """The answer to an order; empty where the process has ended."""
        try:
            self.control.sendall(f"{order}\n".encode())
            return self.control.recv(64).decode().strip()
        except OSError:
            return ""

    @property
    def alive(self) -> bool:
        """True where it has not ended."""
        return alive(self.pid)

    def ends(self) -> None:
        """Ends by itself; when this returns it has gone, ports and all."""
        if self.told("exit"):
            wait_until(lambda: not self.alive, f"{self.pid} has ended")


class Troupe:
    """The director of the processes."""

    def __init__(self, listener: socket.socket, log: Path, opened: contextlib.ExitStack) -> None:
        self._listener = listener
        self._opened = opened
        self._log = log
        self._read = 0
        self._strays: list[tuple[int, socket.socket]] = []
        _, _, self._control = self._accept()

    def actor(self, reaction: str = "end") -> Actor:
        """A new process, which reacts to SIGTERM in one of several ways."""
        self._control.sendall(f"{reaction}\n".encode())
        while True:
            role, pid, control = self._accept()
            if role == "actor":
                return Actor(pid, control)
            self._strays.append((pid, control))

    def fork(self, actor: Actor) -> Actor | None:
        """A child of the actor, with the same sockets; None where the actor has ended."""
        if not (answer := actor.told("fork")):
            return None
        while True:
            _, pid, control = self._accept()
            if str(pid) == answer:
                return Actor(pid, control)
            self._strays.append((pid, control))

    def _accept(self) -> tuple[str, int, socket.socket]:
        control = self._opened.enter_context(self._listener.accept()[0])
        control.settimeout(10.0)
        role, pid = control.recv(64).decode().split()
        return role, int(pid), control

    def dismiss(self, actors: list[Actor]) -> None:
        """Kills the actors and whatever came of them."""
        self._listener.settimeout(0.0)
        with contextlib.suppress(BlockingIOError):
            while True:
                _, pid, control = self._accept()
                self._strays.append((pid, control))
        self._listener.settimeout(10.0)
        for pid, control in [*((each.pid, each.control) for each in actors), *self._strays]:
            control.close()
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._strays.clear()

    def news(self) -> list[dict[str, Any]]:
        """The signals that were received since the last call, each with its receiver's PID."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            text = log.read()
        self._read += len(text)
        return [json.loads(line) for line in text.splitlines()]


@contextlib.contextmanager
def troupe(lab: Lab) -> Iterator[Troupe]:
    """A director; the lab reaps everything that it had forked."""
    with contextlib.ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="lab")))
        path, log = folder / "orders", folder / "log"
        listener = opened.enter_context(socket.socket(socket.AF_UNIX))
        listener.settimeout(10.0)
        listener.bind(str(path))
        listener.listen(16)
        log.touch()
        for each, mode in ((path, 0o666), (log, 0o666), (folder, 0o755)):
            each.chmod(mode)  # for those that change their user
        lab.start("troupe", str(path), "--log", str(log), log=False)
        yield Troupe(listener, log, opened)
        lab.reap()
