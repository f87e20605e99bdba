"""PURE: wishes, and the state of the ports → a port for each service, and why it is that one.

All services are solved together: as many of them as can be get a port that they wish for, and no
fallback takes what another service wishes for or had. The same state gives the same ports.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import ReservedError
from resolver.leases.model import collide
from resolver.model import PortNumber, PortRequest
from resolver.reservations.assigning.search import Ephemeral, Source, candidates

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from resolver.leases.model import Lease, Owner


class Kind(StrEnum):
    """What stands between a service and a port."""

    HELD = "held"  # it cannot be bound
    RESERVED = "reserved"  # by a living lease of somebody else
    ELSEWHERE = "elsewhere"  # it is what another root of this project got, and would get again
    SIBLING = "sibling"  # a service of the same call has it


class Wish(Struct, frozen=True):
    """What a service would like: `options` in order of preference, of one transport and address."""

    service: str
    variable: str
    options: tuple[PortRequest, ...]
    scheme: str = "http"

    @property
    def preferred(self) -> PortRequest:
        """The first choice."""
        return self.options[0]

    def at(self, port: int) -> PortRequest:
        """The same endpoint with another port."""
        return PortRequest(PortNumber(port), self.preferred.transport, self.preferred.address)


class Obstacle(Struct, frozen=True):
    """Why a service did not get a port; `reason` is what bind(2) said, `lease` who reserved it."""

    kind: Kind
    request: PortRequest
    reason: str = ""
    lease: Lease | None = None
    place: str = ""
    service: str = ""


class Choice(Struct, frozen=True):
    """The port of one service.

    `obstacle` is what kept it from its first preference; None where it has that one. `lease` is the
    project's own one on this very endpoint, from before.
    """

    wish: Wish
    request: PortRequest
    source: Source
    obstacle: Obstacle | None = None
    lease: Lease | None = None


class State(Struct, frozen=True):
    """All that the choice depends on.

    `remembered` maps services to the ports they got last here, `elsewhere` ports to the other roots
    of this project that have them for lasting, and `spoken_for` holds what the project's services
    outside of this call wish for. `trouble` says why a port cannot be bound, "" where it can;
    `foreign` whether what holds one of our own leases' ports is known to be somebody else's.
    `unused` wants ports that nobody has, not even the service itself as it runs already.
    """

    project: str
    place: str
    trouble: Callable[[PortRequest], str]
    foreign: Callable[[PortRequest], bool]
    leases: Sequence[Lease] = ()
    remembered: Mapping[str, int] = MappingProxyType({})
    elsewhere: Mapping[int, str] = MappingProxyType({})
    spoken_for: Collection[int] = frozenset()
    pool: tuple[tuple[int, int], ...] = ()
    ephemeral: Ephemeral = Ephemeral()
    owner: Owner | None = None
    strict: bool = False
    unused: bool = False


def choose(wishes: Sequence[Wish], state: State) -> tuple[Choice, ...]:
    """A port for each wish, in their order; with `strict`, one that it wishes for.

    Raises:
        ReservedError: no port is left for a service.
        UnmetError: `strict`, and a wish cannot be met.
    """
    return _Choosing(wishes, state).choices()


class UnmetError(ReservedError):
    """Preferences that cannot be met, each with what stands in the way; for the caller to word."""

    def __init__(self, obstacles: tuple[tuple[Wish, Obstacle], ...]) -> None:
        super().__init__("; ".join(f"{wish.service}: {each.kind}" for wish, each in obstacles))
        self.obstacles = obstacles


def own_leases(service: str, state: State) -> Iterator[Lease]:
    """The leases that this project has for the service here, and that the caller may use.

    That of another living process, such as a second `run` of the service, is usable only for
    somebody who has no process in mind.
    """
    for lease in state.leases:
        mine = (lease.project, lease.place, lease.service) == (state.project, state.place, service)
        if mine and (lease.owner is None or state.owner in {None, lease.owner}):
            yield lease


def movable(lease: Lease, wishes: Iterable[Wish], state: State) -> bool:
    """Whether it is an earlier reservation of one of these services, which get new ones now.

    A service has one of them for each transport and address, and the ports of two services can be
    exchanged. What belongs to the life of a process stays as it is.
    """
    if lease.owner is not None or (lease.project, lease.place) != (state.project, state.place):
        return False
    return any(wish.service == lease.service and _alike(lease.request, wish) for wish in wishes)


def superseded(choices: Sequence[Choice], state: State) -> tuple[Lease, ...]:
    """The earlier leases of services that have other ports now."""
    now = {(choice.wish.service, choice.request) for choice in choices}
    wishes = [choice.wish for choice in choices]
    return tuple(
        lease
        for lease in state.leases
        if movable(lease, wishes, state) and (lease.service, lease.request) not in now
    )


class _Choosing:
    """One solution while it is being made."""

    def __init__(self, wishes: Sequence[Wish], state: State) -> None:
        self._wishes = wishes
        self._state = state
        self._given: dict[str, Choice] = {}
        self._known: dict[tuple[str, PortRequest], Obstacle | None] = {}

    def choices(self) -> tuple[Choice, ...]:
        if not (self._state.strict or self._state.unused):
            self._running()
        self._preferences()
        unmet = [wish for wish in self._wishes if wish.service not in self._given]
        if unmet and self._state.strict:
            raise UnmetError(tuple((wish, self._first_obstacle(wish)) for wish in unmet))
        for wish in unmet:
            self._fallback(wish)
        return tuple(self._given[wish.service] for wish in self._wishes)

    def _running(self) -> None:
        """Services that run on another port than they wish for stay there: it is in their files."""
        for wish in self._wishes:
            for lease in own_leases(wish.service, self._state):
                request = lease.request
                if request in wish.options or not _alike(request, wish):
                    continue
                last = lease.port == self._state.remembered.get(wish.service)
                runs = lease.owner is not None or (last and self._state.trouble(request))
                if runs and not self._obstacle(wish, request) and not self._taken(request):
                    self._give(wish, request, Source.RUNNING)
                    break

    def _preferences(self) -> None:
        """Gives as many services as can be one of their options: augmenting paths (Kuhn, 1955)."""
        holder: dict[PortRequest, Wish] = {}
        waiting = [wish for wish in self._wishes if wish.service not in self._given]
        for wish in sorted(waiting, key=lambda each: (not self._has(each), len(each.options))):
            self._augment(wish, holder, set())
        for request, wish in holder.items():
            self._give(wish, request, Source.PREFERRED)

    def _augment(
        self,
        wish: Wish,
        holder: dict[PortRequest, Wish],
        seen: set[PortRequest],
        claimed: tuple[PortRequest, ...] = (),
    ) -> bool:
        """`claimed` is what those who wait for this one to move are about to get."""
        for request in self._in_order(wish):
            if request in seen or any(collide(each, request) for each in claimed):
                continue
            if self._taken(request) or self._obstacle(wish, request):
                continue
            seen.add(request)
            rivals = [each for each in holder if collide(each, request)]
            if not rivals:
                holder[request] = wish
                return True
            if len(rivals) != 1:
                continue
            if self._augment(holder[rivals[0]], holder, seen, (*claimed, request)):
                holder.pop(rivals[0], None)
                holder[request] = wish
                return True
        return False

    def _has(self, wish: Wish) -> bool:
        """Whether one of the options is the service's already."""
        return any(each.request in wish.options for each in own_leases(wish.service, self._state))

    def _in_order(self, wish: Wish) -> Iterable[PortRequest]:
        """The options of a wish; of a range, what the service has or had comes first."""
        if len(wish.options) == 1:
            return wish.options
        leased = [lease.request for lease in own_leases(wish.service, self._state)]
        last = self._state.remembered.get(wish.service)
        had = [*leased, *([wish.at(last)] if last else [])]
        return dict.fromkeys([each for each in had if each in wish.options] + [*wish.options])

    def _fallback(self, wish: Wish) -> None:
        for source, port in self._candidates(wish):
            request = wish.at(port)
            if port in self._numbers() or self._taken(request) or self._obstacle(wish, request):
                continue
            self._give(wish, request, source)
            return
        raise ReservedError(f"no port is left for {wish.service}")

    def _candidates(self, wish: Wish) -> Iterator[tuple[Source, int]]:
        """Every port that may be tried, the better ones first."""
        state, avoided = self._state, self._avoided(wish)
        last = state.remembered.get(wish.service)
        if last and last not in {*avoided, *(each.port for each in wish.options)}:
            yield Source.LAST, last
        name = f"{state.project}\0{state.place}\0{wish.service}"
        for source, port in candidates(name, state.pool, state.ephemeral):
            if port not in avoided:
                yield source, port

    def _avoided(self, wish: Wish) -> set[int]:
        """What other services wish for, or had last, whether they get it or not."""
        others = [each for each in self._wishes if each.service != wish.service]
        wished = {int(request.port) for each in others for request in each.options}
        had = {port for name, port in self._state.remembered.items() if name != wish.service}
        return {*wished, *had, *self._state.spoken_for}

    def _obstacle(self, wish: Wish, request: PortRequest) -> Obstacle | None:
        key = (wish.service, request)
        if key not in self._known:
            self._known[key] = self._find_obstacle(wish, request)
        return self._known[key]

    def _find_obstacle(self, wish: Wish, request: PortRequest) -> Obstacle | None:
        state = self._state
        own = tuple(own_leases(wish.service, state))
        for lease in state.leases:
            moves = lease in own or movable(lease, self._wishes, state)
            if not moves and collide(lease.request, request):
                return Obstacle(Kind.RESERVED, request, lease=lease)
        mine = any(lease.request == request for lease in own)
        place = state.elsewhere.get(request.port)
        if place and not (mine or state.strict):
            return Obstacle(Kind.ELSEWHERE, request, place=place)
        reason = state.trouble(request)
        if reason and (state.unused or not mine or state.foreign(request)):
            return Obstacle(Kind.HELD, request, reason)
        return None

    def _first_obstacle(self, wish: Wish) -> Obstacle:
        for request in wish.options:
            if found := self._obstacle(wish, request) or self._sibling(wish, request):
                return found
        raise AssertionError(f"{wish.service} has no obstacle")  # pragma: no cover - unreachable

    def _sibling(self, wish: Wish, request: PortRequest) -> Obstacle | None:
        for name, choice in self._given.items():
            if name != wish.service and collide(choice.request, request):
                return Obstacle(Kind.SIBLING, request, service=name)
        return None

    def _numbers(self) -> set[int]:
        """The ports given so far, of either transport: what is remembered is a number alone."""
        return {int(choice.request.port) for choice in self._given.values()}

    def _taken(self, request: PortRequest) -> bool:
        return any(collide(choice.request, request) for choice in self._given.values())

    def _give(self, wish: Wish, request: PortRequest, source: Source) -> None:
        first = wish.preferred
        obstacle = None
        if request != first:
            obstacle = self._obstacle(wish, first) or self._sibling(wish, first)
        own = [each for each in own_leases(wish.service, self._state) if each.request == request]
        self._given[wish.service] = Choice(wish, request, source, obstacle, next(iter(own), None))


def _alike(request: PortRequest, wish: Wish) -> bool:
    return request == wish.at(request.port)
