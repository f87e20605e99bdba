"""Projects of any shape: which of them the engine could publish as a whole."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from resolver.compose import conflicts
from resolver.compose.findings import Code, HostLimits, Severity
from resolver.compose.model import ComposeProject, ComposeService, Published, same_address
from resolver.model import ANY_IPV4, ANY_IPV6

ADDRESSES = (None, ANY_IPV4, ANY_IPV6, "127.0.0.1", "127.0.0.2", "::1")
NAMES = ("a", "b", "c", "d")
PORTS = st.integers(8000, 8003)


@st.composite
def entries(draw: st.DrawFn, name: str) -> Published:
    first = draw(PORTS)
    last = draw(st.integers(first, 8003))
    transport = draw(st.sampled_from(("tcp", "tcp", "udp")))
    address = draw(st.sampled_from(ADDRESSES))
    return Published(name, draw(st.sampled_from((80, 81))), first, last, address, transport, "…")


@st.composite
def projects(draw: st.DrawFn) -> ComposeProject:
    services = tuple(
        ComposeService(
            name,
            tuple(draw(st.lists(entries(name), max_size=3))),
            draw(st.integers(0, 3)),
            draw(st.sampled_from(("", "", "bridge", "host", "none"))),
        )
        for name in draw(st.lists(st.sampled_from(NAMES), unique=True))
    )
    return ComposeProject("shop", Path("/"), (), services)


def taken(address: str | None) -> set[str]:
    """What an engine binds, as sockets would see it: a wildcard stands for all of its family."""
    families: dict[str | None, set[str]] = {
        None: {"127.0.0.1", "127.0.0.2", "::1", "other4", "other6"},
        ANY_IPV4: {"127.0.0.1", "127.0.0.2", "other4"},
        ANY_IPV6: {"::1", "other6"},
    }
    return families.get(address, {address or ""})


def fits(project: ComposeProject) -> bool:
    """Whether there is any way to give each container a port of each entry; by trying them all."""
    wants = [
        entry
        for service in project.services
        for entry in service.fixed
        for _ in range(service.replicas)
    ]
    return _place(wants, set())


def _place(wants: list[Published], used: set[tuple[str, int, str]]) -> bool:
    if not wants:
        return True
    entry, *rest = wants
    for port in entry.ports:
        mine = {(entry.transport, port, address) for address in taken(entry.address)}
        if not mine & used and _place(rest, used | mine):
            return True
    return False


@given(st.sampled_from(ADDRESSES), st.sampled_from(ADDRESSES))
def test_addresses_meet_where_their_sockets_do(one: str | None, other: str | None) -> None:
    assert same_address(one, other) == bool(taken(one) & taken(other))


@given(projects())
def test_a_project_that_cannot_fit_is_never_called_clear(project: ComposeProject) -> None:
    found = conflicts.find(project, HostLimits())
    if not fits(project):
        assert any(each.level is Severity.CONFLICT for each in found)


@given(projects())
def test_single_ports_conflict_exactly_where_they_meet(project: ComposeProject) -> None:
    single = [
        entry
        for service in project.services
        for entry in service.fixed
        if entry.first == entry.last
    ]
    expected = {
        (one.transport, one.first)
        for one, other in combinations(single, 2)
        if one.transport == other.transport
        and one.first == other.first
        and taken(one.address) & taken(other.address)
    }
    found = {
        (request.transport.value, request.port)
        for each in conflicts.find(project, HostLimits())
        if each.code in {Code.TWO_SERVICES, Code.OVERLAP}
        for request in each.requests
    }
    assert found == expected


@given(projects())
def test_conflicts_come_first_and_the_same_each_time(project: ComposeProject) -> None:
    found = conflicts.find(project, HostLimits())
    levels = [each.level for each in found]
    assert levels == sorted(levels)
    assert found == conflicts.find(project, HostLimits())
