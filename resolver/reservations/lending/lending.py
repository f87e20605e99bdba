"""Ports that are lent to processes: each has a lease and a hold for as long as its process lives.

Nothing here knows how a process asks for one.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from resolver.errors import PortNotPermittedError, ReservedError, StoreError
from resolver.leases import rules
from resolver.leases.model import Claim
from resolver.leases.owner import is_dead, owner_of
from resolver.model import Pid, PortNumber, PortRequest, Transport
from resolver.reservations.holding import endpoint
from resolver.reservations.holding.hold import Hold
from resolver.settings import LEASE_SECONDS, RENEW_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from resolver.leases.model import Lease, Owner
    from resolver.leases.owner import Here
    from resolver.protocols import Clock, LeaseStore

PROJECT, SERVICE = "portserver", "portpicker"


class Say(Protocol):
    """Tells the user something; `aside` is only for those who want to know more."""

    def __call__(self, message: str, *, aside: bool = False) -> None:
        """One line."""
        ...


class Terms(Struct, frozen=True):
    """On what terms ports are lent.

    `place` tells servers apart. `ttl_seconds` None: for as long as the process lives. `holds` is
    how many ports may be held in the kernel at once, since each takes a descriptor.
    """

    scope: str
    place: str
    ports: Sequence[int]
    ttl_seconds: float | None = None
    holds: int = 0


class Loan:
    """A port that a process has: its leases, for tcp and udp, and the hold.

    `ends` and `renew_at` are times of the server's clock; None: not by time.
    """

    def __init__(
        self,
        owner: Owner,
        leases: tuple[Lease, ...],
        hold: Hold | None,
        ends: float | None,
        renew_at: float | None,
    ) -> None:
        self.port = leases[0].port
        self.owner = owner
        self.leases = leases
        self.hold = hold
        self.ends = ends
        self.renew_at = renew_at


class Lending:
    """The ports of a pool, and who has them."""

    def __init__(
        self, terms: Terms, store: LeaseStore, where: Here, clock: Clock, say: Say
    ) -> None:
        """Takes over what an earlier server of the same place has lent to living processes.

        Raises:
            StoreError: the store cannot be read.
        """
        self._terms = terms
        self._store = store
        self._here = where
        self._clock = clock
        self._say = say
        self._queue = deque(terms.ports)
        self._loans: dict[int, Loan] = {loan.port: loan for loan in self._earlier()}

    @property
    def loans(self) -> tuple[Loan, ...]:
        """What is lent now."""
        return tuple(self._loans.values())

    def lend(self, pid: Pid) -> Loan:
        """Lends the process the port that was given back longest ago.

        Raises:
            ReservedError: every port is taken.
            UsageError: there is no such process.
            StoreError: the store cannot be reached or written.
        """
        owner = owner_of(pid, self._here)
        if is_dead(owner, self._terms.scope, self._here):
            raise ReservedError(f"process {pid} has ended")
        taken: set[int] | None = None
        for port in self._candidates():
            if taken is not None and port in taken:
                continue
            try:
                return self._lend(port, owner)
            except ReservedError:
                taken = taken or self._reserved()  # so that a full pool costs one look, not many
            except PortNotPermittedError as error:  # a pool that has such
                self._say(str(error), aside=True)
        raise ReservedError(f"no port of {len(self._terms.ports)} is left for process {pid}")

    def give_back(self, loan: Loan) -> None:
        """Ends a loan; where the store cannot be reached, its time or its dead owner ends it."""
        self._loans.pop(loan.port, None)
        if loan.hold is not None:
            loan.hold.release()
        try:
            self._store.release(loan.leases)
        except StoreError as error:
            self._say(str(error))

    def ended(self, pid: int) -> None:
        """Takes back what a process had that has ended."""
        for loan in self.loans:
            if loan.owner.pid == pid:
                self._say(f"{loan.port} is back: process {pid} has ended", aside=True)
                self.give_back(loan)

    def review(self) -> None:
        """Takes back what the dead and the expired had, and renews what has an end in the store."""
        now = self._clock.now()
        for loan in self.loans:
            if loan.ends is not None and loan.ends <= now:
                self._say(f"{loan.port} is back: its time is over", aside=True)
                self.give_back(loan)
            elif is_dead(loan.owner, self._terms.scope, self._here):
                self.ended(loan.owner.pid)
        try:
            for loan in self.loans:
                if loan.renew_at is not None and loan.renew_at <= now:
                    self._renew(loan)
        except StoreError as error:  # once for all: each might take until its deadline
            self._say(f"leases are not renewed: {error}")

    def close(self) -> None:
        """Lets go of the ports; the leases stay with the processes that have them."""
        for loan in self.loans:
            if loan.hold is not None:
                loan.hold.release()
        self._loans.clear()

    def _candidates(self) -> Iterator[int]:
        """Each port of the pool that is not lent, the one used longest ago first."""
        for _ in range(len(self._queue)):
            port = self._queue.popleft()
            self._queue.append(port)
            if port not in self._loans:
                yield port

    def _lend(self, port: int, owner: Owner) -> Loan:
        """Lends this very port.

        Raises:
            ReservedError: somebody has it.
            UltraPortsError: it cannot be bound.
            StoreError: the store cannot be reached or written.
        """
        tcp, udp = (PortRequest(PortNumber(port), transport) for transport in Transport)
        try:
            endpoint.bound(udp).close()
        except OSError as error:
            raise endpoint.explained(udp, error) from error
        hold = Hold.take(tcp, patient=False)
        try:
            leases = self._store.acquire([self._claim(each, owner) for each in (tcp, udp)])
        except BaseException:
            hold.release()
            raise
        kept = hold if self._may_hold(hold) else None
        if kept is None:
            hold.release()
        loan = self._loan(owner, leases, kept)
        self._loans[port] = loan
        return loan

    def _loan(self, owner: Owner, leases: tuple[Lease, ...], hold: Hold | None) -> Loan:
        now, ttl = self._clock.now(), self._terms.ttl_seconds
        ends = None if ttl is None else now + ttl
        renews = ttl is None and any(lease.expires_at is not None for lease in leases)
        return Loan(owner, leases, hold, ends, now + RENEW_SECONDS if renews else None)

    def _may_hold(self, hold: Hold) -> bool:
        if not self._terms.holds or not hold.admits_servers:
            return False
        return len(self._loans) < self._terms.holds

    def _claim(self, request: PortRequest, owner: Owner) -> Claim:
        """For the lease; where others cannot judge the owner, it ends soon unless we renew it."""
        ttl = self._terms.ttl_seconds
        if ttl is None and rules.bounded(self._terms.scope, self._here):
            ttl = LEASE_SECONDS
        return Claim(
            scope=self._terms.scope,
            port=request.port,
            transport=request.transport,
            address=None,
            service=SERVICE,
            project=PROJECT,
            place=self._terms.place,
            owner=owner,
            ttl_seconds=ttl,
        )

    def _reserved(self) -> set[int]:
        return {lease.port for lease in self._store.leases(self._terms.scope)}

    def _renew(self, loan: Loan) -> None:
        """Gives the leases more time.

        Raises:
            StoreError: the store cannot be reached or written.
        """
        ttl = self._claim(loan.leases[0].request, loan.owner).ttl_seconds
        try:
            loan.leases = tuple(self._store.renew(lease, ttl) for lease in loan.leases)
        except ReservedError:
            self._regain(loan)
        loan.renew_at = self._clock.now() + RENEW_SECONDS

    def _regain(self, loan: Loan) -> None:
        """Asks for a lease again that the store has lost, since its process has the port still."""
        claims = [self._claim(lease.request, loan.owner) for lease in loan.leases]
        try:
            loan.leases = self._store.acquire(claims)
            self._say(f"{self._store.where} had lost the lease of {loan.port}: it has one again")
        except ReservedError as error:
            self._say(f"process {loan.owner.pid} has lost its lease of {loan.port}: {error}")

    def _earlier(self) -> Iterator[Loan]:
        found: dict[tuple[Owner, int], list[Lease]] = {}
        for lease in self._store.leases(self._terms.scope):
            owner = lease.owner
            if (lease.project, lease.place) == (PROJECT, self._terms.place) and owner is not None:
                here = (self._here.boot, self._here.pid_namespace)
                if (owner.boot, owner.pid_namespace) == here:  # else nobody here sees its end
                    found.setdefault((owner, lease.port), []).append(lease)
        for (owner, _), leases in found.items():
            yield self._loan(owner, tuple(leases), None)


def watch_descriptor(pid: Pid) -> int | None:
    """A descriptor that becomes readable when the process ends (pidfd_open(2), Linux 5.3).

    None where there is no such thing, or no descriptor is left: then somebody has to look.
    """
    opener: Callable[[int], int] | None = getattr(os, "pidfd_open", None)
    try:
        return opener(pid) if opener else None
    except OSError:
        return None
