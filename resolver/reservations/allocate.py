"""The one way to a port: kept, then preferred, last used, the pool; leased, then proved.

Services are served one after the other, those that keep what they have first, then those with less
choice. A candidate is leased before it is tried, so that of all who want it only one binds it; one
that is not to be had is given back, and the next one tried. All services get a port, or none does.
"""

from __future__ import annotations

import os.path
import time
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from msgspec.structs import replace

from resolver.errors import PortNotPermittedError, ReservedError, StoreError, UltraPortsError
from resolver.leases.model import Lease, collide
from resolver.report.lease import whose
from resolver.reservations.available import Availability
from resolver.reservations.candidates import Source, candidates
from resolver.reservations.requests import of_name
from resolver.reservations.terms import Assigned, KeptError, ObstacleError, Terms, UnmetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from resolver.model import PortRequest
    from resolver.protocols import LeaseStore
    from resolver.reservations.requests import ServiceRequest


EVERYWHERE = "*"  # the place under which a project remembers what each of its roots got
_ATTEMPTS = 32  # to lease one port that nobody seems to have: each lost one is somebody else's


def allocate(
    wanted: Sequence[ServiceRequest],
    terms: Terms,
    store: LeaseStore,
    ports: Availability | None = None,
) -> tuple[Assigned, ...]:
    """A port for each service, in their order, each with a lease of its own; all of them or none.

    The project's earlier leases on these endpoints are renewed; those that an earlier call gave to
    the same services on other ports end.

    Args:
        wanted: at least one; services and variables are distinct.
        terms: for whom.
        store: the ledger.
        ports: who looks at the ports of the machine.

    Raises:
        UnmetError: no port is left, or with `strict` none that was asked for; nothing was taken.
        StoreError: the ledger cannot be read or written.
        EngineError: the scope is an engine's, which does not answer.
        UsageError: an address is none of this machine's.
    """
    return _Allocation(wanted, terms, store, ports or Availability(terms)).run()


def give_back(assigned: Assigned, store: LeaseStore) -> None:
    """As if it had not been allocated; a lease that was renewed gets back the time that it had."""
    lease, earlier = assigned.lease, assigned.earlier
    if assigned.hold:
        assigned.hold.release()
    if lease is None:
        return
    if earlier is None:
        store.release([lease])
    elif earlier.expires_at is not None and lease.expires_at is not None:
        lasts = lease.expires_at - lease.created_at
        store.renew(lease, max(0.0, lasts - (lease.expires_at - earlier.expires_at)))


class _Allocation:
    """One call."""

    def __init__(
        self, wanted: Sequence[ServiceRequest], terms: Terms, store: LeaseStore, ports: Availability
    ) -> None:
        self._wanted, self._terms, self._store, self._ports = wanted, terms, store, ports
        self._leases = store.leases(terms.scope)
        self._last = store.recall(terms.scope, terms.project, terms.place)
        self._elsewhere = {} if terms.strict else _elsewhere(terms, store)
        self._given: dict[str, Assigned] = {}
        self._moved: list[Lease] = []
        self._ahead: Lease | None = None  # on a later option than the one that was lost

    def run(self) -> tuple[Assigned, ...]:
        try:
            self._give_all()
            if not self._terms.dry_run:
                self._finish()
        except BaseException:
            self._undo()
            raise
        return tuple(self._given[each.service] for each in self._wanted)

    def _give_all(self) -> None:
        unmet: dict[str, tuple[ObstacleError, ...]] = {}
        for wanted in sorted(self._wanted, key=self._rank):
            try:
                self._give(wanted)
            except UnmetError as error:
                unmet |= {each.service: obstacles for each, obstacles in error.unmet}
        if unmet:
            kept = [each for each in self._wanted if each.service in unmet]
            raise UnmetError([(each, unmet[each.service]) for each in kept])

    def _rank(self, wanted: ServiceRequest) -> tuple[bool, int]:
        """Those that keep what they have go first; then the choosy."""
        has = any(each.request in wanted.options for each in self._own(wanted.service))
        return not (has or any(self._kept(wanted))), len(wanted.options)

    def _give(self, wanted: ServiceRequest) -> None:
        obstacles: dict[PortRequest, ObstacleError] = {}
        kept = next(self._kept(wanted), None)
        if kept and self._terms.strict:
            raise UnmetError([(wanted, (KeptError(wanted.preferred, kept),))])
        for source, request in self._candidates(wanted):
            try:
                found = self._taken(wanted, request, source)
            except ObstacleError as error:
                obstacles.setdefault(request, error)
                continue
            notes = (self._why(found, obstacles.get(wanted.preferred)), self._doubt(found))
            self._given[wanted.service] = replace(found, notes=tuple(filter(None, notes)))
            return
        raise UnmetError([(wanted, tuple(obstacles.values()) if self._terms.strict else ())])

    # --- what may be tried ------------------------------------------------------------------------

    def _candidates(self, wanted: ServiceRequest) -> Iterator[tuple[Source, PortRequest]]:
        """Every port that may be tried, the better ones first."""
        terms = self._terms
        for request in self._kept(wanted):
            yield Source.KEPT, request
        for request in self._in_order(wanted):
            yield Source.PREFERRED, request
        if terms.strict:
            return
        avoided = self._avoided(wanted)
        last = self._last.get(wanted.service)
        if last and last not in {*avoided, *(each.port for each in wanted.options)}:
            yield Source.LAST, wanted.at(last)
        name = f"{terms.project}\0{terms.place}\0{wanted.service}"
        for source, port in candidates(name, terms.pool, self._ports.ephemeral):
            if port not in avoided:
                yield source, wanted.at(port)

    def _kept(self, wanted: ServiceRequest) -> Iterator[PortRequest]:
        """What the service was assigned, on whatever port: it is in the project's files."""
        if self._terms.beside or self._terms.reassign:
            return
        for lease in self._own(wanted.service):
            request = lease.request
            its = lease.owner is not None or lease.port == self._last.get(wanted.service)
            if its and request not in wanted.options and request == wanted.at(request.port):
                yield request

    def _in_order(self, wanted: ServiceRequest) -> tuple[PortRequest, ...]:
        """The options; of several, what the service has or had comes first."""
        had = [each.request for each in self._own(wanted.service)]
        if last := self._last.get(wanted.service):
            had.append(wanted.at(last))
        first = [each for each in had if each in wanted.options and len(wanted.options) > 1]
        return tuple(dict.fromkeys((*first, *wanted.options)))

    def _avoided(self, wanted: ServiceRequest) -> set[int]:
        """What other services want, had last or have: what is remembered is a number alone."""
        others = [each for each in self._wanted if each.service != wanted.service]
        asked = {request.port for each in others for request in each.options}
        had = {port for name, port in self._last.items() if name != wanted.service}
        given = {each.request.port for each in self._given.values()}
        return {*asked, *had, *given, *self._terms.spoken_for}

    # --- what is in the way -----------------------------------------------------------------------

    def _taken(self, wanted: ServiceRequest, request: PortRequest, source: Source) -> Assigned:
        lease, earlier = self._leased(wanted, request)
        previous = self._last.get(wanted.service)
        found = Assigned(wanted, request, source, previous, lease, earlier)
        try:
            proof, hold = self._ports.prove(request, mine=self._is_own(wanted.service, request))
        except BaseException:
            give_back(found, self._store)
            raise
        return replace(found, proof=proof, hold=hold)

    def _leased(
        self, wanted: ServiceRequest, request: PortRequest
    ) -> tuple[Lease | None, Lease | None]:
        """A lease on the port, and the one that it renews; None in a dry run.

        Who loses it to somebody is granted a later option in the same step, which is kept until its
        turn comes: where many want the first port of a range, each waits once for the store.
        """
        terms = self._terms
        for _ in range(_ATTEMPTS):
            self._check(wanted, request)
            if terms.dry_run:
                return None, None
            if self._ahead is not None and self._ahead.request == request:
                kept, self._ahead = self._ahead, None
                return kept, None
            self._drop_ahead()
            claims = (
                terms.claim(each, wanted.service, terms.ttl_seconds)
                for each in chain([request], self._unreserved_after(wanted, request))
            )
            lease, quicker = self._store.acquire_first(claims)
            if lease is not None and lease.request == request:
                return lease, self._earlier(lease)
            self._ahead = lease
            self._leases += quicker
        raise ObstacleError(request, f"was lost to others {_ATTEMPTS} times")

    def _unreserved_after(
        self, wanted: ServiceRequest, request: PortRequest
    ) -> Iterator[PortRequest]:
        """The options after this one on whose ports nothing is known to be in the way."""
        given = {each.request.port for each in self._given.values()}
        others = {*given, *self._elsewhere, *(each.port for each in self._leases)}
        options = self._in_order(wanted)
        if request in options:
            later = options[options.index(request) + 1 :]
            yield from (each for each in later if each.port not in others)

    def _earlier(self, lease: Lease) -> Lease | None:
        """The lease that this one has taken the place of."""
        renewed = (lease.request, lease.owner)
        own = self._own(lease.service)
        return next((each for each in own if (each.request, each.owner) == renewed), None)

    def _drop_ahead(self) -> None:
        if self._ahead is not None:
            self._store.release([self._ahead])
            self._ahead = None

    def _check(self, wanted: ServiceRequest, request: PortRequest) -> None:
        """Looks for what is in the way of a lease; what is a service's of this call moves."""
        for name, given in self._given.items():
            if collide(given.request, request):
                raise ObstacleError(request, f"is {name}'s")
        for lease in [each for each in self._leases if each.port == request.port]:
            if collide(lease.request, request) and not self._is_usable(lease, wanted.service):
                if not self._is_movable(lease):
                    raise ObstacleError(request, partial(_reserved, lease))
                self._leases = tuple(each for each in self._leases if each is not lease)
                if not self._terms.dry_run:
                    self._moved += self._store.release([lease])
        place = self._elsewhere.get(request.port)
        if place and not self._is_own(wanted.service, request):
            raise ObstacleError(request, f"is this project's in {place}")

    # --- whose it was, and what becomes of it -----------------------------------------------------

    def _own(self, service: str) -> Iterator[Lease]:
        """The leases that this project has for the service here, and that the caller may use."""
        return (each for each in self._leases if self._is_usable(each, service))

    def _is_own(self, service: str, request: PortRequest) -> bool:
        return any(each.request == request for each in self._own(service))

    def _is_usable(self, lease: Lease, service: str) -> bool:
        """Whether it is this project's for the service here, and the caller may use it.

        That of another living process, such as a second `run` of the service, is usable only for
        somebody who has no process in mind.
        """
        terms = self._terms
        return (
            (lease.owner is None or terms.owner in {None, lease.owner})
            and lease.service == service
            and (lease.project, lease.place) == (terms.project, terms.place)
        )

    def _is_movable(self, lease: Lease) -> bool:
        """Whether it is an earlier reservation of one of these services, which get new ones now.

        A service has one of them for each transport and address, and the ports of two services can
        be exchanged. What belongs to the life of a process stays as it is.
        """
        terms = self._terms
        if lease.owner is not None or terms.owner is not None or terms.beside:
            return False
        return (lease.project, lease.place) == (terms.project, terms.place) and any(
            each.service == lease.service and lease.request == each.at(lease.port)
            for each in self._wanted
        )

    def _finish(self) -> None:
        terms, store = self._terms, self._store
        now = {each.wanted.service: int(each.request.port) for each in self._given.values()}
        endpoints = {(each.wanted.service, each.request) for each in self._given.values()}
        store.release(
            [
                lease
                for lease in self._leases
                if self._is_movable(lease) and (lease.service, lease.request) not in endpoints
            ]
        )
        if terms.remembered:
            store.remember(terms.scope, terms.project, terms.place, now)
        if terms.remembered and not terms.beside:
            everywhere = {f"{service}:{terms.place}": port for service, port in now.items()}
            store.remember(terms.scope, terms.project, EVERYWHERE, everywhere)

    def _undo(self) -> None:
        """Leaves what was there before, for the time that was left to it."""
        with suppress(StoreError):
            self._drop_ahead()
        for given in self._given.values():
            with suppress(ReservedError, StoreError):
                give_back(given, self._store)
        for lease in self._moved:
            left = None if lease.expires_at is None else max(1.0, lease.expires_at - time.time())
            with suppress(ReservedError, StoreError):
                self._store.acquire([self._terms.claim(lease.request, lease.service, left)])

    # --- notes ------------------------------------------------------------------------------------

    def _why(self, found: Assigned, obstacle: ObstacleError | None) -> str:
        """What changed, and why; "" where the service has what it asked for, as ever."""
        service, port = found.wanted.service, found.request.port
        asked = found.wanted.preferred.typed
        if found.source is Source.KEPT:
            return (
                f"{service}: it keeps {port}, which it was assigned ({asked} is preferred: "
                "`ultra-ports assign --reassign` asks for that again)"
            )
        if obstacle is not None:
            return f"{service}: {asked} {obstacle} → {port} ({found.source})"
        if found.previous is not None and found.previous != port:
            return f"{service}: {found.previous} → {asked} (preferred, and free)"
        return ""

    def _doubt(self, found: Assigned) -> str:
        """Said of a port that is leased to the project, and held by who knows whom."""
        own = self._own(found.wanted.service)
        if found.proof or any(each.owner for each in own if each.request == found.request):
            return ""
        who = self._ports.names(found.request) or "somebody"
        return (
            f"{found.wanted.service}: {found.request.typed} is reserved for this project, and "
            f"held by {who}; whether that is its own server cannot be told"
        )


def _reserved(lease: Lease) -> str:
    return f"is reserved for {whose(lease)}"


def _elsewhere(terms: Terms, store: LeaseStore) -> dict[int, str]:
    """The ports that other roots of the project got last, as long as these exist."""
    found = {}
    for key, port in store.recall(terms.scope, terms.project, EVERYWHERE).items():
        place = key.partition(":")[2]
        if place != terms.place and os.path.isdir(place):  # noqa: PTH112 - as the store has it
            found[port] = place
    return found


def reserve(
    service: str, requests: tuple[PortRequest, ...], terms: Terms, store: LeaseStore
) -> Assigned:
    """Reserves the first of the ports that is to be had; `terms` are strict.

    Raises:
        ReservedError: somebody else has them, or has reserved them.
        PortNotPermittedError: this user may not bind the port, so it cannot be proved free.
        EngineError: the scope is an engine's, which does not answer.
        StoreError: the store cannot be reached or written.
        UsageError: an address is none of this machine's.
    """
    try:
        (found,) = allocate([of_name(service, *requests)], terms, store)
    except UnmetError as error:
        ((_, obstacles),) = error.unmet
        raise _refusal(requests, obstacles) from error
    return found


def _refusal(
    requests: tuple[PortRequest, ...], obstacles: tuple[ObstacleError, ...]
) -> UltraPortsError:
    first, *others = obstacles
    said = f"{first.request} {first}"
    if others:
        span = f"{requests[0].port}-{requests[-1].port}"
        return ReservedError(f"none of {span} is left: {said}, and {len(others)} more")
    if first.unproved:
        return PortNotPermittedError(said)
    return ReservedError(said, first.hint)
