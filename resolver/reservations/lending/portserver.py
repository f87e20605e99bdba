"""The portserver protocol of python_portpicker: a client sends a PID, and gets a port, a line each.

One thread and one selector. A client has two seconds and a few bytes for its request; whoever gets
no port gets no answer either, as from python_portpicker's own server, and its client says so. A
process that ends wakes the server up; only where the system cannot do that it looks once a second.
"""

from __future__ import annotations

import os
import selectors
from typing import TYPE_CHECKING

from resolver.errors import UltraPortsError
from resolver.reservations.lending.clients import peer_of, process_meant
from resolver.reservations.lending.lending import watch_descriptor

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from resolver.protocols import Clock
    from resolver.reservations.lending.lending import Lending, Loan, Say

REQUEST_SECONDS = 2.0
LONGEST_REQUEST = 20  # bytes, as in python_portpicker's own server
MOST_CLIENTS = 64  # at a time; the next ones wait to be accepted
LOOK_SECONDS = 1.0  # for processes that cannot be waited for
REVIEW_SECONDS = 10.0
_PAUSE_SECONDS = 0.5  # after the system had no descriptor left for a client


class _Client:
    """A connection whose request is not complete."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self.connection = connection
        self.deadline = deadline
        self.received = b""


class Portserver:
    """Answers requests until it is told to stop."""

    def __init__(
        self,
        listener: socket.socket,
        lending: Lending,
        clock: Clock,
        say: Say,
        most_watched: int = 1024,
    ) -> None:
        """`most_watched` is how many descriptors to spend on processes that have ports."""
        self._listener = listener
        self._lending = lending
        self._clock = clock
        self._say = say
        self._selector = selectors.DefaultSelector()
        self._clients: set[_Client] = set()
        self._watched: dict[int, int] = {}  # PID → a descriptor that tells its end
        self._most_watched = most_watched
        self._accepting = False
        self._resume_at = 0.0
        self._review_at = 0.0

    def serve(self, stop: socket.socket) -> None:
        """Serves until `stop` becomes readable; then every connection and descriptor is closed.

        Processes that have ports keep them, and their leases.
        """
        self._listener.settimeout(0)
        self._selector.register(stop, selectors.EVENT_READ, None)
        try:
            for loan in self._lending.loans:
                self._watch(loan)
            while self._turn():
                pass
        finally:
            for client in list(self._clients):
                self._close(client)
            for descriptor in self._watched.values():
                os.close(descriptor)
            self._selector.close()

    def _turn(self) -> bool:
        """Waits for something to happen, and deals with it; False when it is time to stop."""
        self._open_or_shut()
        for key, _ in self._selector.select(self._patience()):
            if key.data is None:
                return False
            action: Callable[[], None] = key.data
            action()
        now = self._clock.now()
        for client in [each for each in self._clients if each.deadline <= now]:
            self._refuse(client, f"no whole request within {REQUEST_SECONDS:g} s")
        self._review()
        return True

    def _open_or_shut(self) -> None:
        """Accepts clients while there is room for them."""
        room = len(self._clients) < MOST_CLIENTS and self._clock.now() >= self._resume_at
        if room and not self._accepting:
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        elif self._accepting and not room:
            self._selector.unregister(self._listener)
        self._accepting = room

    def _patience(self) -> float | None:
        """Seconds until something has to be done though nothing happens; None: never."""
        now = self._clock.now()
        waits = [max(0.0, client.deadline - now) for client in self._clients]
        if self._resume_at > now:
            waits.append(self._resume_at - now)
        if loans := self._lending.loans:
            waits.append(self._review_at - now)
            waits += [loan.ends - now for loan in loans if loan.ends is not None]
        return max(0.0, min(waits)) if waits else None

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:  # no descriptor left: not to be asked again at once
            self._say(f"cannot accept a client: {error.strerror or error}")
            self._resume_at = self._clock.now() + _PAUSE_SECONDS
            return
        connection.settimeout(0)
        client = _Client(connection, self._clock.now() + REQUEST_SECONDS)
        self._clients.add(client)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._receive(client))

    def _receive(self, client: _Client) -> None:
        try:
            more = client.connection.recv(LONGEST_REQUEST + 1)
        except BlockingIOError:
            return
        except OSError:
            self._close(client)
            return
        client.received += more
        line, newline, _ = client.received.partition(b"\n")
        if len(line) > LONGEST_REQUEST:
            self._refuse(client, f"a request of more than {LONGEST_REQUEST} bytes")
        elif newline or not more:
            self._answer(client, line)

    def _answer(self, client: _Client, line: bytes) -> None:
        text = line.strip()
        if not text.isdigit():
            self._refuse(client, f"{line!r} is no PID" if line else "no request")
            return
        try:
            pid = process_meant(int(text), peer_of(client.connection))
            loan = self._lending.lend(pid)
        except (UltraPortsError, OSError) as error:
            self._refuse(client, str(error))
            return
        self._watch(loan)
        try:
            client.connection.send(b"%d\n" % loan.port)
            self._say(f"{loan.port} for process {pid}", aside=True)
        except OSError:  # it has left; nobody knows of the port
            self._lending.give_back(loan)
        self._close(client)

    def _refuse(self, client: _Client, why: str) -> None:
        self._say(f"a client gets no port: {why}")
        self._close(client)

    def _close(self, client: _Client) -> None:
        self._clients.discard(client)
        self._selector.unregister(client.connection)
        client.connection.close()

    def _watch(self, loan: Loan) -> None:
        """Wakes up when the loan's process ends, if it has not ended already."""
        pid = loan.owner.pid
        if pid in self._watched:
            return
        room = len(self._watched) < self._most_watched
        descriptor = watch_descriptor(pid) if room else None
        if descriptor is None:
            self._review_at = min(self._review_at, self._clock.now() + LOOK_SECONDS)
            return
        self._watched[pid] = descriptor
        self._selector.register(descriptor, selectors.EVENT_READ, lambda: self._ended(pid))

    def _ended(self, pid: int) -> None:
        self._forget(pid)
        self._lending.ended(pid)

    def _forget(self, pid: int) -> None:
        descriptor = self._watched.pop(pid)
        self._selector.unregister(descriptor)
        os.close(descriptor)

    def _review(self) -> None:
        """Looks at what no event tells: the time, and processes that cannot be waited for."""
        now = self._clock.now()
        due = [loan.ends for loan in self._lending.loans if loan.ends is not None]
        if now < min([self._review_at, *due]):
            return
        self._lending.review()
        left = {loan.owner.pid for loan in self._lending.loans}
        for pid in self._watched.keys() - left:
            self._forget(pid)
        blind = left - self._watched.keys()
        self._review_at = now + (LOOK_SECONDS if blind else REVIEW_SECONDS)
