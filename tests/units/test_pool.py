"""Which port each service gets: the order of preference, and what stands in the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from resolver.errors import ReservedError, UsageError
from resolver.leases.model import Lease, Owner
from resolver.model import Pid, PortNumber, PortRequest, Transport
from resolver.portspec import parse
from resolver.reservations.assigning.ephemeral import ephemeral_range, parse_reserved
from resolver.reservations.assigning.pool import (
    Choice,
    Kind,
    State,
    UnmetError,
    Wish,
    choose,
)
from resolver.reservations.assigning.search import REFUSED_BY_BROWSERS, Ephemeral, Source
from resolver.reservations.telling.formats import distinct, names, scheme, variables_of

if TYPE_CHECKING:
    from collections.abc import Sequence

PROJECT, PLACE = "shop", "/srv/shop"
SOMEBODY = Owner("boot", "pid:[1]", Pid(4711), 1)


def wish(service: str, spec: str | int) -> Wish:
    return Wish(service, f"{service.upper()}_PORT", parse([str(spec)]))


def lease(service: str, port: int, place: str = PLACE, **fields: Any) -> Lease:  # noqa: ANN401
    given = {
        "token": 1,
        "scope": "host:x",
        "port": PortNumber(port),
        "transport": Transport.TCP,
        "address": None,
        "service": service,
        "project": PROJECT,
        "place": place,
        "owner": None,
        "created_at": 0.0,
        "expires_at": None,
    }
    return Lease(**{**given, **fields})


def state(held: Sequence[int] = (), foreign: Sequence[int] = (), **fields: Any) -> State:  # noqa: ANN401
    taken = {*held, *foreign}
    return State(
        **{
            "project": PROJECT,
            "place": PLACE,
            "trouble": lambda request: "in use" if request.port in taken else "",
            "foreign": lambda request: request.port in foreign,
            "pool": ((7100, 7109),),
            "ephemeral": Ephemeral(32768, 60999),
            **fields,
        }
    )


def chosen(wishes: Sequence[Wish], given: State) -> dict[str, tuple[int, Source]]:
    return {each.wish.service: (each.request.port, each.source) for each in choose(wishes, given)}


def only(wished: Wish, given: State) -> Choice:
    (found,) = choose([wished], given)
    return found


def test_what_is_free_is_given_as_wished() -> None:
    assert chosen([wish("api", 8085), wish("web", 3000)], state()) == {
        "api": (8085, Source.PREFERRED),
        "web": (3000, Source.PREFERRED),
    }


def test_a_held_port_gives_way_to_the_last_one_then_to_the_pool() -> None:
    held = state(held=[3000])
    first = only(wish("web", 3000), held)
    assert first.source is Source.POOL
    assert 7100 <= first.request.port <= 7109
    assert first.obstacle is not None
    assert (first.obstacle.kind, first.obstacle.reason) == (Kind.HELD, "in use")
    again = state(held=[3000], remembered={"web": 7777})
    assert chosen([wish("web", 3000)], again) == {"web": (7777, Source.LAST)}


def test_without_a_pool_it_is_below_the_ephemeral_range() -> None:
    found = only(wish("web", 3000), state(held=[3000], pool=()))
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
    found = only(wish("web", 3000), state(held=[3000], pool=(), ephemeral=ephemeral))
    assert found.source is source
    assert 1024 <= found.request.port <= 65535


def test_no_fallback_is_refused_by_browsers_well_known_or_reserved_by_the_system() -> None:
    first = 10_000
    pool = ((6660, 6670),)
    found = only(wish("web", 3000), state(held=[3000], pool=pool))
    assert found.request.port not in REFUSED_BY_BROWSERS
    few = Ephemeral(first + 4, 60999, frozenset({first + 1, first + 2}))
    found = only(wish("web", 3000), state(held=[3000], pool=(), ephemeral=few))
    assert found.request.port == first + 3  # 10000 is webmin's


def test_what_somebody_else_has_reserved_is_left_to_them() -> None:
    theirs = lease("api", 8085, place="/srv/other")
    found = only(wish("api", 8085), state(leases=[theirs]))
    assert found.source is Source.POOL
    assert found.obstacle is not None
    assert found.obstacle.lease == theirs


@pytest.mark.parametrize(
    ("reserved", "wished", "met"),
    [
        ("127.0.0.1:8085", "8085", False),
        ("127.0.0.1:8085", "127.0.0.2:8085", True),
        ("127.0.0.1:8085", "[::1]:8085", True),
        ("8085/udp", "8085", True),
        ("8085", "127.0.0.1:8085", False),
    ],
)
def test_reservations_stand_in_the_way_as_sockets_do(reserved: str, wished: str, met: bool) -> None:  # noqa: FBT001
    (request,) = parse([reserved])
    theirs = lease(
        "x", request.port, project="y", transport=request.transport, address=request.address
    )
    found = only(wish("api", wished), state(leases=[theirs]))
    assert (found.source is Source.PREFERRED) is met


def test_a_service_keeps_its_address_and_transport_wherever_it_goes() -> None:
    found = only(wish("dns", "127.0.0.1:5300/udp"), state(held=[5300]))
    assert found.request == PortRequest(found.request.port, Transport.UDP, "127.0.0.1")
    assert found.source is Source.POOL


def test_our_own_server_does_not_push_us_out() -> None:
    ours = lease("api", 8085)
    running = state(held=[8085], leases=[ours])
    found = only(wish("api", 8085), running)
    assert (found.request.port, found.source, found.lease) == (8085, Source.PREFERRED, ours)


def test_a_stranger_on_our_reserved_port_does() -> None:
    found = only(wish("api", 8085), state(foreign=[8085], leases=[lease("api", 8085)]))
    assert found.source is Source.POOL


def test_the_lease_of_another_service_of_ours_is_not_ours() -> None:
    found = only(wish("api", 8085), state(leases=[lease("web", 8085)]))
    assert found.source is Source.POOL


def test_a_server_that_runs_on_its_second_choice_stays_there() -> None:
    ours = lease("web", 7105)
    assert chosen(
        [wish("web", 3000)], state(held=[7105], leases=[ours], remembered={"web": 7105})
    ) == {"web": (7105, Source.RUNNING)}


def test_one_that_does_not_run_goes_back_to_its_first() -> None:
    ours = lease("web", 7105)
    assert chosen([wish("web", 3000)], state(leases=[ours], remembered={"web": 7105})) == {
        "web": (3000, Source.PREFERRED)
    }


def test_who_is_about_to_start_takes_no_port_that_is_in_use() -> None:
    given = state(held=[8085], leases=[lease("api", 8085)], unused=True, owner=SOMEBODY)
    assert only(wish("api", 8085), given).source is Source.POOL


def test_a_second_run_of_a_service_gets_a_port_of_its_own() -> None:
    first = lease("api", 8085, owner=SOMEBODY)
    second = state(leases=[first], unused=True, owner=Owner("boot", "pid:[1]", Pid(4712), 2))
    assert only(wish("api", 8085), second).source is Source.POOL
    assert only(wish("api", 8085), state(held=[8085], leases=[first])).request.port == 8085


def test_another_worktree_keeps_what_it_had() -> None:
    given = state(elsewhere={8085: "/srv/other"})
    found = only(wish("api", 8085), given)
    assert found.obstacle is not None
    assert (found.obstacle.kind, found.obstacle.place) == (Kind.ELSEWHERE, "/srv/other")
    insisting = state(elsewhere={8085: "/srv/other"}, strict=True)
    assert only(wish("api", 8085), insisting).request.port == 8085


def test_two_worktrees_begin_to_search_at_different_ports() -> None:
    found = {
        only(wish("api", 8085), state(held=[8085], pool=(), place=f"/srv/{n}")).request.port
        for n in range(16)
    }
    assert len(found) == 16


def test_no_fallback_takes_what_another_service_wishes_for_or_had() -> None:
    given = state(
        held=[3000], pool=((7100, 7103),), remembered={"old": 7101}, spoken_for=frozenset({7102})
    )
    found = chosen([wish("web", 3000), wish("api", 7100)], given)
    assert found == {"web": (7103, Source.POOL), "api": (7100, Source.PREFERRED)}


def test_what_a_service_had_is_no_way_to_take_what_another_one_wishes_for() -> None:
    given = state(held=[3000], remembered={"web": 8085})
    found = chosen([wish("web", 3000), wish("api", 8085)], given)
    assert found["api"] == (8085, Source.PREFERRED)
    assert found["web"][1] is Source.POOL


def test_of_two_with_one_wish_the_first_gets_it() -> None:
    choices = choose([wish("a", 8085), wish("b", 8085)], state())
    assert choices[0].source is Source.PREFERRED
    assert choices[1].obstacle is not None
    assert (choices[1].obstacle.kind, choices[1].obstacle.service) == (Kind.SIBLING, "a")


def test_ranges_make_room_for_those_with_less_choice() -> None:
    found = chosen([wish("a", "8000-8001"), wish("b", 8000), wish("c", "8000-8002")], state())
    assert {name: port for name, (port, _) in found.items()} == {"a": 8001, "b": 8000, "c": 8002}


def test_ranges_are_matched_so_that_as_many_as_can_be_are_met() -> None:
    wishes = [wish("a", "8000-8001"), wish("b", "8001-8002"), wish("c", "8000,8002")]
    assert {port for port, _ in chosen(wishes, state()).values()} == {8000, 8001, 8002}


def test_in_a_range_a_service_keeps_what_it_has() -> None:
    given = state(remembered={"api": 8003})
    assert chosen([wish("api", "8000-8009")], given) == {"api": (8003, Source.PREFERRED)}


def test_strict_names_what_stands_in_the_way() -> None:
    theirs = lease("x", 8085, project="y")
    with pytest.raises(UnmetError) as caught:
        choose(
            [wish("a", 8085), wish("b", 3000), wish("c", 3000), wish("d", 4000)],
            state(held=[4000], leases=[theirs], strict=True),
        )
    found = {each.service: obstacle.kind for each, obstacle in caught.value.obstacles}
    assert found == {"a": Kind.RESERVED, "c": Kind.SIBLING, "d": Kind.HELD}


def test_two_services_can_exchange_their_ports() -> None:
    given = state(leases=[lease("a", 8085), lease("b", 3000)], remembered={"a": 8085, "b": 3000})
    assert chosen([wish("a", 3000), wish("b", 8085)], given) == {
        "a": (3000, Source.PREFERRED),
        "b": (8085, Source.PREFERRED),
    }
    assert only(wish("a", 3000), given).source is Source.LAST  # b is not asked


def test_who_has_a_port_keeps_it_when_another_service_wishes_for_it_too() -> None:
    given = state(leases=[lease("b", 8085)], remembered={"b": 8085})
    found = chosen([wish("a", 8085), wish("b", 8085)], given)
    assert found["b"] == (8085, Source.PREFERRED)


def test_no_port_left_is_an_error() -> None:
    def always(_: PortRequest) -> str:
        return "in use"

    with pytest.raises(ReservedError, match="web"):
        choose([wish("web", 3000)], state(trouble=always))


def test_reserved_ports_of_the_system_are_read() -> None:
    assert parse_reserved("8080,9148-9150\n") == {8080, 9148, 9149, 9150}
    assert parse_reserved("\n") == frozenset()
    assert parse_reserved("x,1-99999999999") >= {1, 65535}
    found = ephemeral_range()
    assert 0 <= found.first < found.last <= 65535


def test_names_of_variables() -> None:
    assert names("api", "API_PORT").url == "API_URL"
    assert names("my-api", "MY_API_PORT").host == "MY_API_HOST"
    assert names("web", "PORT").url == "WEB_URL"
    assert names("web", "_PORT").url == "WEB_URL"
    (v6,) = parse(["[::1]:8085"])
    assert variables_of(Wish("api", "API_PORT", (v6,)), v6) == {
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
        distinct([wish("a", 1), wish("a", 2)])
    with pytest.raises(UsageError, match="A_B_PORT"):
        distinct([Wish("a-b", "A_B_PORT", parse(["1"])), Wish("a_b", "A_B_PORT", parse(["2"]))])
