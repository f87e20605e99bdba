"""Whatever is taken and whoever wishes for what: no two get one port, and the same state again
gives the same ports.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from resolver.errors import ReservedError
from resolver.leases.model import Lease, collide
from resolver.model import PortNumber, PortRequest, Transport
from resolver.reservations.assigning.pool import (
    Choice,
    Kind,
    State,
    UnmetError,
    Wish,
    choose,
    superseded,
)
from resolver.reservations.assigning.search import Ephemeral, Source

PORTS = range(7000, 7012)
NAMES = ("api", "web", "redis", "dns", "db")
HERE = ("shop", "/srv/shop")


class World(NamedTuple):
    """A state as plain values, so that it can be varied."""

    held: frozenset[int]
    foreign: frozenset[int]
    leases: tuple[Lease, ...]
    remembered: dict[str, int]
    elsewhere: dict[int, str]
    pool: tuple[tuple[int, int], ...]
    strict: bool
    unused: bool

    def state(self) -> State:
        taken = self.held | self.foreign
        return State(
            *HERE,
            trouble=lambda request: "in use" if request.port in taken else "",
            foreign=lambda request: request.port in self.foreign,
            leases=self.leases,
            remembered=self.remembered,
            elsewhere=self.elsewhere,
            pool=self.pool,
            ephemeral=Ephemeral(7012, 60999),
            strict=self.strict,
            unused=self.unused,
        )


ports = st.sampled_from(PORTS)
addresses = st.sampled_from([None, None, None, "127.0.0.1", "127.0.0.2", "::1", "0.0.0.0", "::"])
transports = st.sampled_from([Transport.TCP, Transport.TCP, Transport.UDP])


@st.composite
def wish_lists(draw: st.DrawFn) -> list[Wish]:
    found = []
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True)):
        transport, address = draw(transports), draw(addresses)
        options = draw(st.lists(ports, min_size=1, max_size=4, unique=True))
        requests = tuple(PortRequest(PortNumber(port), transport, address) for port in options)
        found.append(Wish(name, f"{name}_PORT", requests))
    return found


@st.composite
def leases(draw: st.DrawFn) -> tuple[Lease, ...]:
    """Leases as a store would have them: those of two services do not collide."""
    found: list[Lease] = []
    for token in range(draw(st.integers(0, 5))):
        project, place = draw(st.sampled_from([HERE, ("shop", "/srv/b"), ("other", "/srv/c")]))
        request = PortRequest(PortNumber(draw(ports)), draw(transports), draw(addresses))
        if not any(collide(request, each.request) for each in found):
            endpoint = (request.port, request.transport, request.address)
            service = draw(st.sampled_from(NAMES))
            found.append(
                Lease(token, "host:x", *endpoint, service, project, place, None, 0.0, None)
            )
    return tuple(found)


worlds = st.builds(
    World,
    held=st.frozensets(ports, max_size=6),
    foreign=st.frozensets(ports, max_size=3),
    leases=leases(),
    remembered=st.dictionaries(st.sampled_from(NAMES), ports),
    elsewhere=st.dictionaries(ports, st.just("/srv/b"), max_size=3),
    pool=st.sampled_from([(), ((7000, 7005),), ((7006, 7007), (7009, 7011))]),
    strict=st.booleans(),
    unused=st.booleans(),
)


def solved(wishes: list[Wish], world: World) -> tuple[Choice, ...]:
    """The choices; a state in which there are none is not among the examples."""
    try:
        return choose(wishes, world.state())
    except ReservedError:
        assume(False)  # noqa: FBT003
        raise


def own(choice: Choice, lease: Lease) -> bool:
    return (lease.project, lease.place, lease.service) == (*HERE, choice.wish.service)


@settings(max_examples=400)
@given(wish_lists(), worlds)
def test_assignments_never_collide_with_one_another_or_with_anybody(
    wishes: list[Wish], world: World
) -> None:
    choices = solved(wishes, world)
    assert [each.wish for each in choices] == wishes
    for one, other in combinations(choices, 2):
        assert not collide(one.request, other.request)
    for choice in choices:
        mine = [lease for lease in world.leases if own(choice, lease)]
        ended = superseded(choices, world.state())
        for lease in world.leases:
            assert lease in (*mine, *ended) or not collide(lease.request, choice.request)
        if choice.request.port in world.held | world.foreign:
            assert not world.unused
            assert choice.request.port not in world.foreign
            assert choice.request in [lease.request for lease in mine]
        assert choice.request.transport == choice.wish.preferred.transport
        assert choice.request.address == choice.wish.preferred.address


@settings(max_examples=250)
@given(wish_lists(), worlds)
def test_strict_is_respected_and_fails_only_for_a_reason(wishes: list[Wish], world: World) -> None:
    world = world._replace(strict=True)
    try:
        choices = choose(wishes, world.state())
    except UnmetError as error:
        assert error.obstacles
        for wish, obstacle in error.obstacles:
            assert obstacle.request in wish.options
        return
    for choice in choices:
        assert choice.request in choice.wish.options
        assert choice.source is Source.PREFERRED


@settings(max_examples=250)
@given(wish_lists(), worlds)
def test_the_same_state_gives_the_same_ports(wishes: list[Wish], world: World) -> None:
    assert solved(wishes, world) == choose(wishes, world.state())


@settings(max_examples=400)
@given(wish_lists(), worlds, st.data())
def test_a_second_assignment_changes_nothing_even_while_the_servers_run(
    wishes: list[Wish], world: World, data: st.DataObject
) -> None:
    world = world._replace(unused=False)
    choices = solved(wishes, world)
    ended = superseded(choices, world.state())
    renewed = [(c.wish.service, c.request) for c in choices]
    kept = tuple(
        each
        for each in world.leases
        if each not in ended
        and not ((each.project, each.place) == HERE and (each.service, each.request) in renewed)
    )
    granted = tuple(
        Lease(
            100 + number, "host:x", each.request.port, each.request.transport,
            each.request.address, each.wish.service, *HERE, None, 0.0, None,
        )
        for number, each in enumerate(choices)
    )  # fmt: skip
    running = data.draw(st.frozensets(st.sampled_from([int(c.request.port) for c in choices])))
    after = world._replace(
        leases=(*kept, *granted),
        remembered=world.remembered | {c.wish.service: int(c.request.port) for c in choices},
        held=world.held | running - world.foreign,
    )
    again = choose(wishes, after.state())
    assert {c.wish.service: c.request for c in again} == {
        c.wish.service: c.request for c in choices
    }


@settings(max_examples=250)
@given(wish_lists(), worlds)
def test_whoever_does_not_get_the_first_choice_is_told_why(
    wishes: list[Wish], world: World
) -> None:
    for choice in solved(wishes, world):
        if choice.request == choice.wish.preferred:
            assert choice.obstacle is None
        elif choice.source is not Source.RUNNING and len(choice.wish.options) == 1:
            assert choice.obstacle is not None
            assert choice.obstacle.request == choice.wish.preferred
            assert (choice.obstacle.lease is not None) == (choice.obstacle.kind is Kind.RESERVED)
