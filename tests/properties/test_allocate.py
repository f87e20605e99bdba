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
from resolver.reservations.candidates import Ephemeral, Source
from resolver.reservations.requests import ServiceRequest
from resolver.reservations.terms import Assigned, UnmetError
from tests.lab.allocating import World, lease

PORTS = range(7000, 7012)
NAMES = ("api", "web", "redis", "dns", "db")
HERE = ("shop", "/srv/shop")


class Case(NamedTuple):
    """A world and terms as plain values."""

    held: frozenset[int]
    foreign: frozenset[int]
    leases: tuple[Lease, ...]
    remembered: dict[str, int]
    elsewhere: dict[int, str]
    pool: tuple[tuple[int, int], ...]
    strict: bool
    start: bool

    def world(self) -> World:
        return World(
            held=self.held,
            foreign=self.foreign,
            leases=self.leases,
            remembered=self.remembered,
            elsewhere=self.elsewhere,
            ephemeral=Ephemeral(7012, 60999),
        )

    def allocate(self, world: World, wanted: list[ServiceRequest]) -> tuple[Assigned, ...]:
        return world.allocate(wanted, pool=self.pool, strict=self.strict, held=self.start)


ports = st.sampled_from(PORTS)
addresses = st.sampled_from([None, None, None, "127.0.0.1", "127.0.0.2", "::1", "0.0.0.0", "::"])
transports = st.sampled_from([Transport.TCP, Transport.TCP, Transport.UDP])


@st.composite
def requests(draw: st.DrawFn) -> list[ServiceRequest]:
    found = []
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True)):
        transport, address = draw(transports), draw(addresses)
        options = draw(st.lists(ports, min_size=1, max_size=4, unique=True))
        requests = tuple(PortRequest(PortNumber(port), transport, address) for port in options)
        found.append(ServiceRequest(name, f"{name}_PORT", requests))
    return found


@st.composite
def leases(draw: st.DrawFn) -> tuple[Lease, ...]:
    """Leases as a store would have them: those of two services do not collide."""
    found: list[Lease] = []
    for token in range(draw(st.integers(0, 5))):
        project, place = draw(st.sampled_from([HERE, ("shop", "/srv/b"), ("other", "/srv/c")]))
        request = PortRequest(PortNumber(draw(ports)), draw(transports), draw(addresses))
        if not any(collide(request, each.request) for each in found):
            service = draw(st.sampled_from(NAMES))
            found.append(
                lease(
                    *(service, request.port, place),
                    token=token + 1,
                    transport=request.transport,
                    address=request.address,
                    project=project,
                )
            )
    return tuple(found)


cases = st.builds(
    Case,
    held=st.frozensets(ports, max_size=6),
    foreign=st.frozensets(ports, max_size=3),
    leases=leases(),
    remembered=st.dictionaries(st.sampled_from(NAMES), ports),
    elsewhere=st.dictionaries(ports, st.just("/usr"), max_size=3),
    pool=st.sampled_from([(), ((7000, 7005),), ((7006, 7007), (7009, 7011))]),
    strict=st.booleans(),
    start=st.booleans(),
)


def solved(
    case: Case, wanted: list[ServiceRequest], world: World | None = None
) -> tuple[Assigned, ...]:
    """What is allocated; a case in which nothing can be is not among the examples."""
    try:
        return case.allocate(world or case.world(), wanted)
    except ReservedError:
        assume(False)  # noqa: FBT003
        raise


@settings(max_examples=150)
@given(requests(), cases)
def test_ports_never_collide_with_one_another_or_with_anybody(
    wanted: list[ServiceRequest], case: Case
) -> None:
    world = case.world()
    found = solved(case, wanted, world)
    assert [each.wanted for each in found] == wanted
    now = world.store.leases()
    assert {each.lease for each in found} <= {*now}
    for one, other in combinations(now, 2):
        same = (one.service, one.project, one.place) == (other.service, other.project, other.place)
        assert same or not collide(one.request, other.request)
    ours = {each.service for each in wanted}
    for before in case.leases:
        if (before.project, before.place) != HERE or before.service not in ours:
            assert before in now
    for each in found:
        if each.request.port in case.held | case.foreign:
            assert not case.start
            assert each.request.port not in case.foreign
            assert each.earlier is not None
        assert each.request == each.wanted.at(each.request.port)


@settings(max_examples=120)
@given(requests(), cases)
def test_strict_is_respected_and_fails_only_for_a_reason(
    wanted: list[ServiceRequest], case: Case
) -> None:
    case = case._replace(strict=True)
    world = case.world()
    try:
        found = case.allocate(world, wanted)
    except UnmetError as error:
        assert error.unmet
        for unmet, obstacles in error.unmet:
            assert {obstacle.request for obstacle in obstacles} == {*unmet.options}
        return
    for each in found:
        assert each.request in each.wanted.options
        assert each.source is Source.PREFERRED


@settings(max_examples=120)
@given(requests(), cases)
def test_the_same_state_gives_the_same_ports(wanted: list[ServiceRequest], case: Case) -> None:
    one, other = (solved(case, wanted) for _ in range(2))
    assert [each.request for each in one] == [each.request for each in other]
    dry = case.world().allocate(
        wanted, pool=case.pool, strict=case.strict, held=case.start, dry_run=True
    )
    assert [each.request for each in dry] == [each.request for each in one]


@settings(max_examples=150)
@given(requests(), cases, st.data())
def test_a_second_time_changes_nothing_even_while_the_servers_run(
    wanted: list[ServiceRequest], case: Case, data: st.DataObject
) -> None:
    case = case._replace(start=False)
    world = case.world()
    first = solved(case, wanted, world)
    running = data.draw(st.frozensets(st.sampled_from([int(each.request.port) for each in first])))
    world.held |= running - case.foreign
    again = case.allocate(world, wanted)
    assert [each.request for each in again] == [each.request for each in first]


@settings(max_examples=120)
@given(requests(), cases)
def test_whoever_does_not_get_the_first_choice_is_told_why(
    wanted: list[ServiceRequest], case: Case
) -> None:
    for each in solved(case, wanted):
        if each.source is not Source.KEPT and each.request not in each.wanted.options:
            asked = each.wanted.preferred
            assert str(asked.port) in each.notes[0]
            assert f" → {each.request.port} ({each.source})" in each.notes[0]
