"""The ports of one process of a test run: leased while a test needs them, and for a while after.

What the pytest plug-in gives out. Nothing here knows pytest.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Self

from resolver.errors import ReservedError, UltraPortsError
from resolver.gather import list_sockets
from resolver.leases import owner, scope, store
from resolver.leases.model import Claim
from resolver.model import PortNumber, PortRequest, Transport
from resolver.project.names import working_directory
from resolver.reservations.assigning import ephemeral, search
from resolver.reservations.holding.hold import Hold
from resolver.settings import RESERVATION_SECONDS, STATE_VARIABLE, STORE_VARIABLE
from resolver.verify import prove

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from resolver.leases.model import Lease

_AGAIN_SECONDS = 0.05
_REST = 32  # ports of a process that come to rest before one of them is given again
_MOST_TRIES = 2000
_PROJECT = "pytest"
_WORKER_VARIABLE = "PYTEST_XDIST_WORKER"


class ReservedPort(int):
    """The number of a port that this process keeps in the kernel for the test's own server.

    A server that sets SO_REUSEADDR, as most do, binds it as it is; for another one, or where the
    kernel is not Linux, call `release` just before.
    """

    _hold: Hold

    @classmethod
    def of(cls, number: int, hold: Hold) -> Self:
        """The port that this hold keeps."""
        port = cls(number)
        port._hold = hold
        return port

    def release(self) -> None:
        """Lets the port go; the lease stays until the test ends."""
        self._hold.release()


class Ports:
    """The leases of one process, which end with it.

    Args:
        environ: the settings.
        spare: a directory that all processes of a run share, for a ledger where the user's own
            cannot be written.

    Raises:
        UltraPortsError: a setting makes no sense, or the ledger cannot be read.
    """

    def __init__(self, environ: Mapping[str, str], spare: Path) -> None:
        environ = {**environ, STORE_VARIABLE: ""}  # other machines' ports are no matter here
        self._place = working_directory()
        self._store = store.open_store(environ, self._place)
        if not self._store.lasting:
            environ[STATE_VARIABLE] = str(spare / "ultra-ports")
            self._store = store.open_store(environ, self._place)
        where = owner.here(environ)
        self._owner = owner.myself(where)
        self._scope = scope.machine_scope(environ)
        self._service = environ.get(_WORKER_VARIABLE, "") or "main"
        self._leased: dict[int, tuple[Lease, ...]] = {}
        self._resting: deque[int] = deque()
        self._candidates = _endless(f"{_PROJECT}\0{self._owner.pid}\0{self._owner.start_time}")

    def take(self) -> int:
        """A free port with a lease.

        Raises:
            UltraPortsError: there is none, or the ledger cannot be written.
        """
        return self._found(lambda requests: all(map(_is_free, requests)))

    def take_and_hold(self) -> ReservedPort:
        """A free port with a lease, which is kept in the kernel for TCP; raises as `take` does."""
        holds: list[Hold] = []

        def is_held(requests: Sequence[PortRequest]) -> bool:
            try:
                holds.extend(Hold.take(each, patient=False) for each in requests)
            except UltraPortsError:
                while holds:
                    holds.pop().release()
            return bool(holds)

        number = self._found(is_held, held=True)
        tcp, udp = holds
        udp.release()  # two sockets on one UDP port would share its datagrams
        return ReservedPort.of(number, tcp)

    def rest(self, port: int) -> None:
        """The test needs it no longer; it is not given again for a while."""
        self._resting.append(int(port))
        if len(self._resting) > _REST:
            self._store.release(self._leased.pop(self._resting.popleft()))

    def turn(self, requests: Sequence[PortRequest], seconds: float) -> tuple[Lease, ...]:
        """Waits until no other test has these ports to itself.

        The turns are leases in a scope of their own: the ports may well be reserved, for the very
        server that is to be tested.

        Raises:
            UltraPortsError: the time is up, or the ledger cannot be written.
        """
        claims = [self._claim(each, f"{_PROJECT}:{self._scope}") for each in requests]
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self._store.acquire(claims)
            except ReservedError as error:
                if time.monotonic() >= deadline:
                    said = f"another test has used the port for {seconds:g} s: {error}"
                    raise UltraPortsError(said) from error
                time.sleep(_AGAIN_SECONDS)

    def end(self, turn: tuple[Lease, ...]) -> None:
        """Lets the next test have its turn."""
        self._store.release(turn)

    def close(self) -> None:
        """Ends every lease."""
        self._store.release([lease for leases in self._leased.values() for lease in leases])
        self._store.close()

    def _found(self, suits: Callable[[Sequence[PortRequest]], bool], *, held: bool = False) -> int:
        """The next port that suits, leased for TCP and UDP."""
        for _ in range(_MOST_TRIES):
            port = next(self._candidates)
            if port in self._leased:
                continue
            requests = [PortRequest(PortNumber(port), each) for each in Transport]
            claims = [self._claim(each, self._scope, held=held) for each in requests]
            try:
                leases = self._store.acquire(claims)
            except ReservedError:
                continue
            if suits(requests):
                self._leased[port] = leases
                return port
            self._store.release(leases)
        raise ReservedError(f"no free port was found: {_MOST_TRIES} were tried")

    def _claim(self, request: PortRequest, where: str, *, held: bool = False) -> Claim:
        return Claim(
            scope=where,
            port=request.port,
            transport=request.transport,
            address=request.address,
            service=self._service,
            project=_PROJECT,
            place=str(self._place),
            owner=self._owner,
            ttl_seconds=RESERVATION_SECONDS,
            held=held,
        )


def _is_free(request: PortRequest) -> bool:
    """Whether any server could bind it, also one that does not set SO_REUSEADDR."""
    proof = prove(request, list_sockets)
    return proof.free is True and not proof.lingering


def _endless(name: str) -> Iterator[int]:
    """Ports over and over; those that the kernel gives away only where there are no others."""
    ranges = ephemeral.ephemeral_range()
    outside = False
    while True:
        for source, port in search.candidates(name, (), ranges):
            if source is not search.Source.INSIDE:
                outside = True
            elif outside:
                break
            yield port
