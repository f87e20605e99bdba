"""Which port each service gets: the order of preference, and what stands in the way."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from resolver.errors import ReservedError, UsageError
from resolver.leases.owner import myself, owner_of
from resolver.model import PortRequest, Transport
from resolver.portspec import parse
from resolver.reservations.candidates import (
    REFUSED_BY_BROWSERS,
    Ephemeral,
    Source,
    ephemeral_range,
)
from resolver.reservations.export.variables import distinct, names, scheme, variables_of
from resolver.reservations.requests import ServiceRequest
from resolver.reservations.terms import UnmetError
from tests.lab.allocating import TERMS, WHERE, World, lease

if TYPE_CHECKING:
    from resolver.reservations.terms import Assigned


def request(service: str, spec: str | int) -> ServiceRequest:
    return ServiceRequest(service, f"{service.upper()}_PORT", parse([str(spec)]))


def chosen(world: World, *wanted: ServiceRequest, **terms: Any) -> dict[str, tuple[int, Source]]:  # noqa: ANN401
    found = world.allocate(wanted, **terms)
    return {each.wanted.service: (each.request.port, each.source) for each in found}


def only(world: World, wanted: ServiceRequest, **terms: Any) -> Assigned:  # noqa: ANN401
    (found,) = world.allocate([wanted], **terms)
    return found


def test_what_is_free_is_given_as_asked() -> None:
    assert chosen(World(), request("api", 8085), request("web", 3000)) == {
        "api": (8085, Source.PREFERRED),
        "web": (3000, Source.PREFERRED),
    }


def test_a_held_port_gives_way_to_the_last_one_then_to_the_pool() -> None:
    first = only(World(held=[3000]), request("web", 3000))
    assert first.source is Source.POOL
    assert 7100 <= first.request.port <= 7109
    assert first.notes == (f"web: 3000 cannot be bound: in use → {first.request.port} (pool)",)
    again = World(held=[3000], remembered={"web": 7777})
    assert chosen(again, request("web", 3000)) == {"web": (7777, Source.LAST)}


def test_without_a_pool_it_is_below_the_ephemeral_range() -> None:
    found = only(World(held=[3000]), request("web", 3000), pool=())
    assert found.source is Source.BELOW
    assert 10_000 <= found.request.port < 32768


@pytest.mark.parametrize(
    ("ephemeral", "source"),
    [
        (Ephemeral(1024, 60999), Source.ABOVE),
        (Ephemeral(1024, 65535), Source.INSIDE),
        (Ephemeral(0, 65535), Source.INSIDE),
        (Ephemeral(1030, 65535, frozenset(range(1024, 1030))), Source.INSIDE),
    ],
)
def test_a_system_without_ports_below_gets_others(ephemeral: Ephemeral, source: Source) -> None:
    found = only(World(held=[3000], ephemeral=ephemeral), request("web", 3000), pool=())
    assert found.source is source
    assert 1024 <= found.request.port <= 65535


def test_no_fallback_is_refused_by_browsers_well_known_or_reserved_by_the_system() -> None:
    first = 10_000
    found = only(World(held=[3000]), request("web", 3000), pool=((6660, 6670),))
    assert found.request.port not in REFUSED_BY_BROWSERS
    few = Ephemeral(first + 4, 60999, frozenset({first + 1, first + 2}))
    found = only(World(held=[3000], ephemeral=few), request("web", 3000), pool=())
    assert found.request.port == first + 3  # 10000 is webmin's


def test_what_somebody_else_has_reserved_is_left_to_them() -> None:
    theirs = lease("api", 8085, place="/srv/other")
    world = World(leases=[theirs])
    found = only(world, request("api", 8085))
    assert found.source is Source.POOL
    assert found.notes[0].startswith("api: 8085 is reserved for api of project shop (/srv/other)")
    assert theirs in world.store.leases()


@pytest.mark.parametrize(
    ("reserved", "asked", "met"),
    [
        ("127.0.0.1:8085", "8085", False),
        ("127.0.0.1:8085", "127.0.0.2:8085", True),
        ("127.0.0.1:8085", "[::1]:8085", True),
        ("8085/udp", "8085", True),
        ("8085", "127.0.0.1:8085", False),
    ],
)
def test_reservations_stand_in_the_way_as_sockets_do(reserved: str, asked: str, met: bool) -> None:  # noqa: FBT001
    (there,) = parse([reserved])
    theirs = lease("x", there.port, project="y", transport=there.transport, address=there.address)
    found = only(World(leases=[theirs]), request("api", asked))
    assert (found.source is Source.PREFERRED) is met


def test_a_service_keeps_its_address_and_transport_wherever_it_goes() -> None:
    found = only(World(held=[5300]), request("dns", "127.0.0.1:5300/udp"))
    assert found.request == PortRequest(found.request.port, Transport.UDP, "127.0.0.1")
    assert found.source is Source.POOL


def test_our_own_server_does_not_push_us_out() -> None:
    ours = lease("api", 8085)
    found = only(World(held=[8085], leases=[ours]), request("api", 8085))
    assert (found.request.port, found.source, found.earlier) == (8085, Source.PREFERRED, ours)


def test_a_stranger_on_our_reserved_port_does() -> None:
    world = World(foreign=[8085], leases=[lease("api", 8085)])
    assert only(world, request("api", 8085)).source is Source.POOL


def test_the_lease_of_another_service_of_ours_is_not_ours() -> None:
    found = only(World(leases=[lease("web", 8085)]), request("api", 8085))
    assert found.source is Source.POOL


@pytest.mark.parametrize("held", [(), (7105,)], ids=["stopped", "running"])
def test_what_was_assigned_is_kept_until_it_is_to_move(held: tuple[int, ...]) -> None:
    world = World(held=held, leases=[lease("web", 7105)], remembered={"web": 7105})
    kept = only(world, request("web", 3000))
    assert (kept.request.port, kept.source) == (7105, Source.KEPT)
    assert kept.notes[0].startswith("web: it keeps 7105, which it was assigned (3000 is preferred")
    with pytest.raises(UnmetError, match="web: 3000 is not what it was assigned, 7105"):
        world.allocate([request("web", 3000)], strict=True)
    moved = {"web": (3000, Source.PREFERRED)}
    assert chosen(world, request("web", 3000), reassign=True) == moved
    assert [each.port for each in world.store.leases()] == [3000]
    assert chosen(world, request("web", 3000)) == moved


def test_a_server_about_to_start_takes_what_its_service_was_assigned() -> None:
    world = World(leases=[lease("web", 7105)], remembered={"web": 7105})
    terms = {"held": True, "owner": myself(WHERE), "ttl_seconds": None}
    assert chosen(world, request("web", 3000), **terms) == {"web": (7105, Source.KEPT)}


def test_who_is_about_to_start_takes_no_port_that_is_in_use() -> None:
    world = World(held=[8085], leases=[lease("api", 8085)])
    found = only(world, request("api", 8085), held=True, owner=myself(WHERE), ttl_seconds=None)
    assert found.source is Source.POOL


def test_a_second_run_of_a_service_gets_a_port_of_its_own() -> None:
    first = lease("api", 8085, owner=myself(WHERE))
    second = {"held": True, "owner": owner_of(os.getppid(), WHERE)}
    assert only(World(leases=[first]), request("api", 8085), **second).source is Source.POOL
    running = World(held=[8085], leases=[first])
    assert only(running, request("api", 8085)).request.port == 8085


def test_another_worktree_keeps_what_it_had() -> None:
    found = only(World(elsewhere={8085: "/usr"}), request("api", 8085))
    assert found.notes[0].startswith("api: 8085 is this project's in /usr → ")
    insisting = only(World(elsewhere={8085: "/usr"}), request("api", 8085), strict=True)
    assert insisting.request.port == 8085


def test_two_worktrees_begin_to_search_at_different_ports() -> None:
    found = {
        only(World(held=[8085]), request("api", 8085), pool=(), place=f"/srv/{n}").request.port
        for n in range(16)
    }
    assert len(found) == 16


def test_no_fallback_takes_what_another_service_wants_or_had() -> None:
    world = World(held=[3000], remembered={"old": 7101})
    found = chosen(
        world,
        *(request("web", 3000), request("api", 7100)),
        pool=((7100, 7103),),
        spoken_for=frozenset({7102}),
    )
    assert found == {"web": (7103, Source.POOL), "api": (7100, Source.PREFERRED)}


def test_what_a_service_had_is_no_way_to_take_what_another_one_wants() -> None:
    world = World(held=[3000], remembered={"web": 8085})
    found = chosen(world, request("web", 3000), request("api", 8085))
    assert found["api"] == (8085, Source.PREFERRED)
    assert found["web"][1] is Source.POOL


def test_of_two_who_want_one_port_the_first_gets_it() -> None:
    one, other = World().allocate([request("a", 8085), request("b", 8085)])
    assert one.source is Source.PREFERRED
    assert other.notes[0].startswith("b: 8085 is a's → ")


def test_ranges_make_room_for_those_with_less_choice() -> None:
    wanted = (request("a", "8000-8001"), request("b", 8000), request("c", "8000-8002"))
    found = chosen(World(), *wanted)
    assert {name: port for name, (port, _) in found.items()} == {"a": 8001, "b": 8000, "c": 8002}


def test_in_a_range_a_service_keeps_what_it_has() -> None:
    world = World(remembered={"api": 8003})
    assert chosen(world, request("api", "8000-8009")) == {"api": (8003, Source.PREFERRED)}


def test_strict_names_what_stands_in_the_way_and_takes_nothing() -> None:
    theirs = lease("x", 8085, project="y", expires_at=None)
    world = World(held=[4000], leases=[theirs])
    wanted = [request("a", 8085), request("b", 3000), request("c", 3000), request("d", 4000)]
    with pytest.raises(UnmetError) as caught:
        world.allocate(wanted, strict=True)
    assert [each.service for each, _ in caught.value.unmet] == ["a", "c", "d"]
    assert str(caught.value) == (
        "a: 8085 is reserved for x of project y (/srv/shop); c: 3000 is b's; "
        "d: 4000 cannot be bound: in use"
    )
    assert world.store.leases() == (theirs,)


def test_two_services_can_exchange_their_ports() -> None:
    def world() -> World:
        return World(leases=[lease("a", 8085), lease("b", 3000)], remembered={"a": 8085, "b": 3000})

    both = world()
    assert chosen(both, request("a", 3000), request("b", 8085), reassign=True) == {
        "a": (3000, Source.PREFERRED),
        "b": (8085, Source.PREFERRED),
    }
    assert {each.service: each.port for each in both.store.leases()} == {"a": 3000, "b": 8085}
    assert only(world(), request("a", 3000), reassign=True).source is Source.LAST  # b is not asked


def test_what_was_moved_comes_back_where_nothing_is_given() -> None:
    world = World(held=[4000], leases=[lease("b", 3000)])
    with pytest.raises(UnmetError, match="c: 4000"):
        world.allocate([request("a", 3000), request("b", 8085), request("c", 4000)], strict=True)
    assert [(each.service, each.port) for each in world.store.leases()] == [("b", 3000)]


def test_who_has_a_port_keeps_it_when_another_service_wants_it_too() -> None:
    world = World(leases=[lease("b", 8085)], remembered={"b": 8085})
    found = chosen(world, request("a", 8085), request("b", 8085))
    assert found["b"] == (8085, Source.PREFERRED)


def test_a_dry_run_changes_nothing() -> None:
    ours = lease("web", 7105)
    world = World(held=[3000], leases=[ours], remembered={"web": 7105})
    assert chosen(world, request("web", 3000), dry_run=True) == {"web": (7105, Source.KEPT)}
    moved = {"web": (8085, Source.PREFERRED)}
    assert chosen(world, request("web", 8085), dry_run=True, reassign=True) == moved
    assert world.store.leases() == (ours,)
    assert world.store.recall(TERMS.scope, TERMS.project, TERMS.place) == {"web": 7105}


def test_no_port_left_is_an_error() -> None:
    """Of all ports a hundredth may be tried: the others would take seconds, and show no more."""
    reserved = frozenset(port for port in range(65536) if port % 100)
    world = World(held=range(65536), ephemeral=Ephemeral(32768, 60999, reserved))
    with pytest.raises(ReservedError, match="no port is left for web"):
        world.allocate([request("web", 3000)])


def test_the_range_of_the_system_is_read() -> None:
    found = ephemeral_range()
    assert 0 <= found.first < found.last <= 65535


def test_names_of_variables() -> None:
    assert names("api", "API_PORT").url == "API_URL"
    assert names("my-api", "MY_API_PORT").host == "MY_API_HOST"
    assert names("web", "PORT").url == "WEB_URL"
    assert names("web", "_PORT").url == "WEB_URL"
    (v6,) = parse(["[::1]:8085"])
    assert variables_of(ServiceRequest("api", "API_PORT", (v6,)), v6) == {
        "API_PORT": "8085",
        "API_HOST": "::1",
        "API_URL": "http://[::1]:8085",
    }
    assert scheme("redis", "", Transport.TCP) == "redis"
    assert scheme("redis", "tcp", Transport.TCP) == "redis"
    assert scheme("redis", "http", Transport.TCP) == "http"
    assert scheme("api", "command", Transport.TCP) == "http"
    assert scheme("db", "postgres", Transport.TCP) == "postgresql"
    assert scheme("redis", "", Transport.UDP) == "udp"


def test_services_do_not_share_names_or_variables() -> None:
    with pytest.raises(UsageError, match="twice"):
        distinct([request("a", 1), request("a", 2)])
    with pytest.raises(UsageError, match="A_B_PORT"):
        distinct(
            [
                ServiceRequest("a-b", "A_B_PORT", parse(["1"])),
                ServiceRequest("a_b", "A_B_PORT", parse(["2"])),
            ]
        )
