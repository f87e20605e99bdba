"""A program on ports of its own: held until it takes them, leased for as long as it runs.

A server that sets SO_REUSEADDR takes its port under the hold. One that binds plainly is refused
there, like everybody else, and ends at once. It is then started a second time, without the hold,
but only where all of this is so, since what a program does may not bear doing twice:

* it ended by itself, with a status other than 0, within a few seconds, and got no signal;
* the kernel says that a TCP socket was refused by bind(2) meanwhile, and that none was ever bound
  to any of the ports (`refused.py`); where the kernel does not tell, there is no second start;
* nothing has the ports now.

So a program that fails for another reason runs once, unless it also threw an unused socket away.
`plain` starts it without the hold in the first place, and `once` forbids a second start. What was
learned is not kept for the next time: it is true of a command line, not of a service, and to
forget it costs no more than the first start of the next run.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

from msgspec import Struct

from resolver.errors import ReservedError, StoreError
from resolver.gather import list_sockets
from resolver.reservations.holding.child import Child, Program, Signals
from resolver.reservations.holding.handover import ready
from resolver.reservations.holding.hold import Hold
from resolver.reservations.holding.refused import ClosedSockets
from resolver.settings import RENEW_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from resolver.leases.model import Lease
    from resolver.model import PortRequest
    from resolver.protocols import LeaseStore
    from resolver.reservations.holding.child import Ended

FAILS_WITHIN_SECONDS = 5.0  # a server that is refused its port ends as soon as it has loaded

THREAD_SECONDS = 5.0  # longer than any engine may take


class Manner(Struct, frozen=True):
    """How the program is started; `argv` and `environ` are complete."""

    argv: tuple[str, ...]
    environ: Mapping[str, str]
    plain: bool = False
    once: bool = False
    pass_sockets: bool = False


class Running:
    """Holds the ports of services while a program runs; a context manager that lets go of them.

    Args:
        services: the endpoint of each service.
        say: what the user must know, in a line.
        mention: what a verbose reader wants.
    """

    def __init__(
        self,
        services: Mapping[str, PortRequest],
        say: Callable[[str], None],
        mention: Callable[[str], None],
    ) -> None:
        self._services = services
        self._say = say
        self._mention = mention
        self._holds: dict[str, Hold] = {}

    def hold(self) -> None:
        """Takes every port.

        Raises:
            ReservedError: somebody has one.
            UsageError: an address is none of this machine's.
            PortNotPermittedError: this user may not bind one.
        """
        for name, request in self._services.items():
            try:
                taken = Hold.take(request)
            except ReservedError as error:
                raise ReservedError(f"{name}: {error}", error.hint) from error
            self._holds[name] = taken
            also = f", though {taken.lingering}" if taken.lingering else ""
            self._mention(f"{name}: holding {request}{also}")

    def run(self, manner: Manner, leases: Leases) -> int:
        """Starts the program, waits for it, and returns its status: 128 + N for signal N.

        Raises:
            NotStartedError: it cannot be executed.
        """
        _wait_for_threads()
        with Signals() as signals:
            ended, refused = self._start(manner, signals, leases)
            if refused:
                self._say(
                    f"{manner.argv[0]} ended with status {ended.status} after {ended.seconds:.1f} s"
                    ", and seems to have been refused a port that is held for it: starting it "
                    "again without the hold"
                    f" (--plain does so at once, --once never)"
                )
                self.release()
                ended, _ = self._start(manner, signals, leases)
            self._mention(f"{manner.argv[0]} ended: {ended.status}")
            leases.release()
        return ended.status

    def _start(self, manner: Manner, signals: Signals, leases: Leases) -> tuple[Ended, bool]:
        """How it ended, and whether that was for want of a port that is held."""
        passed = None
        if manner.pass_sockets:
            passed = {name: ready(hold.socket) for name, hold in self._holds.items()}
        else:
            self._make_way(everything=manner.plain)
        witness = ClosedSockets.watch() if self._holds and not (manner.once or passed) else None
        try:
            child = Child.start(Program(manner.argv, manner.environ, passed), signals, self._say)
            if passed:
                self.release()  # the sockets are the program's now
            ended = child.wait(lambda: _sooner(leases.keep(), _while_it_matters(witness)))
            return ended, witness is not None and self._was_refused(ended, witness)
        finally:
            if witness is not None:
                witness.close()

    def _make_way(self, *, everything: bool) -> None:
        """Lets go of the ports that cannot be taken under a hold."""
        for name, hold in list(self._holds.items()):
            if everything or not hold.admits_servers:
                hold.release()
                del self._holds[name]
                self._mention(f"{name}: released {hold.request} just before the start")

    def _was_refused(self, ended: Ended, witness: ClosedSockets) -> bool:
        if not (ended.status and ended.by_itself and ended.seconds < FAILS_WITHIN_SECONDS):
            return False
        requests = [hold.request for hold in self._holds.values()]
        if not witness.tell_of_a_refusal({request.port for request in requests}):
            return False
        held = {hold.inode for hold in self._holds.values()}
        return all(entry.inode in held for entry in list_sockets(requests))

    def release(self) -> None:
        """Lets go of every port."""
        for hold in self._holds.values():
            hold.release()
        self._holds.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _wait_for_threads() -> None:
    """Lets those end that asked engines and gave up: they would get the signals meant for us."""
    for each in threading.enumerate():
        if each is not threading.current_thread():
            each.join(THREAD_SECONDS)


def _while_it_matters(witness: ClosedSockets | None) -> float:
    """Lets the witness go when a failure would be too late; in how many seconds that is, or 0."""
    if witness is None:
        return 0.0
    left = witness.began + FAILS_WITHIN_SECONDS - time.monotonic()
    if left <= 0:
        witness.close()
    return max(0.0, left)


def _sooner(*seconds: float) -> float:
    """The next of several times, of which 0 is never."""
    return min(filter(None, seconds), default=0.0)


class Leases:
    """Leases that live as long as this process, and are renewed where others cannot see it live."""

    def __init__(
        self,
        leases: Sequence[Lease],
        store: LeaseStore,
        say: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leases = list(leases)
        self._store = store
        self._say = say
        self._now = now
        self._due = now() + RENEW_SECONDS
        self._troubled = False

    def keep(self) -> float:
        """Renews what is due, and returns in how many seconds that is next; 0: never."""
        if self._now() >= self._due:
            self._leases = [kept for each in self._leases if (kept := self._renewed(each))]
            self._due = self._now() + RENEW_SECONDS
        if all(lease.expires_at is None for lease in self._leases):
            return 0.0
        return max(0.01, self._due - self._now())

    def _renewed(self, lease: Lease) -> Lease | None:
        if lease.expires_at is None:
            return lease
        try:
            renewed = self._store.renew(lease, None)
        except ReservedError as error:
            self._say(f"the lease on {lease.request} is lost: {error}; it goes on without")
            return None
        except StoreError as error:
            if not self._troubled:
                self._say(f"the lease on {lease.request} could not be renewed: {error}")
            self._troubled = True
            return lease
        self._troubled = False
        return renewed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Gives them back; where that fails, they end with this process or with their time."""
        try:
            if self._leases:
                self._store.release(self._leases)
        except StoreError as error:
            self._say(f"the leases could not be given back: {error}")
        self._leases = []
