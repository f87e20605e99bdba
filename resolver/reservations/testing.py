"""What the pytest plug-in gives out: ports of a test's own, and ports that are freed for it.

The former are leased while a test needs them, and for a while after; the latter are freed before
it, and after it if anything is left there.
"""

from __future__ import annotations

import time
import warnings
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

import pytest
from msgspec.structs import replace

from resolver import api
from resolver.errors import ReservedError, UltraPortsError, UsageError
from resolver.gather import list_sockets
from resolver.leases import assigned, owner, scope, store
from resolver.model import PortNumber, PortRequest, Transport
from resolver.project import names
from resolver.report.story import stories
from resolver.reservations.allocate import allocate, give_back
from resolver.reservations.candidates import candidates, ephemeral_range
from resolver.reservations.requests import ServiceRequest
from resolver.reservations.terms import Assigned, Terms
from resolver.settings import RESERVATION_SECONDS, STATE_VARIABLE, STORE_VARIABLE
from resolver.verify import prove

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from resolver.leases.model import Lease
    from resolver.reservations.hold import Hold

POOL: tuple[tuple[int, int], ...] = ()  # below the ephemeral range, if it is empty
_AGAIN_SECONDS = 0.05
_AFTER_SECONDS = 2.0  # a server that the test has ended may need a moment to let go
_SETTLE_SECONDS = 0.3
_REST = 32  # ports of a process that come to rest before one of them is given again
_MOST_TRIES = 2000
_PROJECT = "pytest"
_WORKER_VARIABLE = "PYTEST_XDIST_WORKER"


class ReservedPort(int):
    """The number of a port that this process keeps in the kernel for the test's own server.

    A server that sets SO_REUSEADDR, as most do, binds it as it is; for another one, or where the
    kernel is not Linux, call `release` just before.
    """

    _hold: Hold | None

    @classmethod
    def of(cls, number: int, hold: Hold | None) -> Self:
        """The port that this hold keeps."""
        port = cls(number)
        port._hold = hold
        return port

    def release(self) -> None:
        """Lets the port go; the lease stays until the test ends."""
        if self._hold is not None:
            self._hold.release()


class LeasedPorts:
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
        place = names.working_directory()
        self._store = store.open_store(environ, place)
        if not self._store.lasting:
            environ[STATE_VARIABLE] = str(spare / "ultra-ports")
            self._store = store.open_store(environ, place)
        self._terms = Terms(
            scope=scope.machine_scope(environ),
            project=_PROJECT,
            place=str(place),
            pool=POOL,
            owner=owner.myself(owner.here(environ)),
            patient=False,
            remembered=False,
            use_docker=False,
        )
        self._worker = environ.get(_WORKER_VARIABLE, "") or "main"
        self._leased: dict[int, tuple[Lease, ...]] = {}
        self._resting: deque[int] = deque()
        self._count = 0

    def take(self) -> int:
        """A free port with a lease.

        Raises:
            UltraPortsError: there is none, or the ledger cannot be written.
        """
        tcp, udp = self._allocated(held=False)
        return self._kept(tcp, udp)

    def take_and_hold(self) -> ReservedPort:
        """A free port with a lease, which is kept in the kernel for TCP; raises as `take` does."""
        tcp, udp = self._allocated(held=True)
        return ReservedPort.of(self._kept(tcp, udp), tcp.hold)

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
        terms = replace(self._terms, scope=f"{_PROJECT}:{self._terms.scope}")
        claims = [terms.claim(each, self._worker, RESERVATION_SECONDS) for each in requests]
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

    def _allocated(self, *, held: bool) -> tuple[Assigned, Assigned]:
        """A port that nobody has for TCP, nor for UDP; nothing lingers on it."""
        ranges = ephemeral_range()
        for _ in range(_MOST_TRIES):
            self._count += 1
            service = f"{self._worker}-{self._count}"
            _, first = next(candidates(service, POOL, ranges))
            (tcp,) = self._allocate(service, PortRequest(PortNumber(first)), held=held)
            also = PortRequest(tcp.request.port, Transport.UDP)
            with suppress(ReservedError):
                (udp,) = self._allocate(service, also, strict=True)
                return tcp, udp
            give_back(tcp, self._store)
        raise ReservedError(f"no free port was found: {_MOST_TRIES} were tried")

    def _allocate(
        self, service: str, request: PortRequest, *, held: bool = False, strict: bool = False
    ) -> tuple[Assigned, ...]:
        terms = replace(self._terms, held=held, strict=strict)
        return allocate([ServiceRequest(service, "", (request,))], terms, self._store)

    def _kept(self, *found: Assigned) -> int:
        port = int(found[0].request.port)
        self._leased[port] = tuple(each.lease for each in found if each.lease)
        return port


@contextmanager
def failing_test(what: str = "") -> Iterator[None]:
    """Makes a failure of the test, in words, of what cannot be done."""
    try:
        yield
    except UltraPortsError as error:
        pytest.fail(f"{what}{error}" + (f" ({error.hint})" if error.hint else ""), pytrace=False)


def requests_of(ports: tuple[int | str, ...]) -> list[PortRequest]:
    """The ports as they were given, in the PORT grammar or by the names of services.

    Raises:
        UsageError: there are none, or one makes no sense.
    """
    if not ports:
        raise UsageError("no port was given")
    return list(names.wanted(map(str, ports), assigned.current, to_end=True).requests)


def free(requests: list[PortRequest], options: dict[str, Any]) -> None:
    """Frees the ports, or fails the test."""
    report = api.resolve(*map(str, requests), **{"settle_seconds": _SETTLE_SECONDS, **options})
    if report.exit_status:
        said = f"clear_port: not free before the test\n{stories(report.ports)}"
        pytest.fail(said, pytrace=False)


def free_again(requests: list[PortRequest], options: dict[str, Any]) -> None:
    """Ends what the test has left on its ports, and tells of it; an error where it must stay."""
    deadline = time.monotonic() + _AFTER_SECONDS
    left = requests
    while left := [each for each in left if not prove(each, list_sockets).free]:
        if time.monotonic() >= deadline:
            break
        time.sleep(_AGAIN_SECONDS)
    if not left:
        return
    report = api.resolve(*map(str, left), **{"settle_seconds": _SETTLE_SECONDS, **options})
    said = stories(report.ports)
    if report.exit_status:
        pytest.fail(f"clear_port: not free after the test\n{said}", pytrace=False)
    warnings.warn(pytest.PytestWarning(f"clear_port: left by the test\n{said}"), stacklevel=2)
