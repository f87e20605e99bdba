"""What is wrong with a compose project by itself; each case was seen with the real compose."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from resolver.compose import conflicts, holders
from resolver.compose.findings import Code, Finding, HostLimits, Severity
from resolver.compose.holders import Facts
from resolver.compose.model import ComposeProject, ComposeService, Published

ORDINARY = HostLimits(ephemeral=range(32768, 61000), first_unprivileged=1024, engine_uid=0)


def entry(
    service: str,
    first: int | None,
    last: int | None = None,
    address: str | None = None,
    transport: str = "tcp",
    target: int = 80,
) -> Published:
    text = f"{address or ''}:{first}-{last or first}:{target}/{transport}"
    return Published(service, target, first, last or first, address, transport, text)


def service(
    name: str, *published: Published, replicas: int = 1, network_mode: str = ""
) -> ComposeService:
    return ComposeService(name, published, replicas, network_mode)


def found(*services: ComposeService, machine: HostLimits = ORDINARY) -> tuple[Finding, ...]:
    project = ComposeProject("shop", Path("/srv/shop"), (), services)
    return conflicts.find(project, machine)


def codes(*services: ComposeService, machine: HostLimits = ORDINARY) -> list[tuple[Severity, Code]]:
    return [(each.level, each.code) for each in found(*services, machine=machine)]


def both(mine: Published, theirs: Published) -> list[tuple[Severity, Code]]:
    return codes(service("web", mine), service("api", theirs))


def test_a_quiet_project_has_no_findings() -> None:
    assert not found(
        service("web", entry("web", 8080), entry("web", None)),
        service("api", entry("api", 8081), entry("api", 8080, transport="udp")),
        service("db"),
    )


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (None, None),
        (None, "127.0.0.1"),
        (None, "::1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "::1"),
        (None, "0.0.0.0"),
        (None, "::"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_two_services_on_one_port(mine: str | None, theirs: str | None) -> None:
    clash = [(Severity.CONFLICT, Code.TWO_SERVICES)]
    assert both(entry("web", 8080, address=mine), entry("api", 8080, address=theirs)) == clash
    assert both(entry("web", 8080, address=theirs), entry("api", 8080, address=mine)) == clash


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [("127.0.0.1", "127.0.0.2"), ("0.0.0.0", "::"), ("127.0.0.1", "::1"), ("0.0.0.0", "::1")],
)
def test_addresses_that_go_together(mine: str, theirs: str) -> None:
    """An engine publishes on a family's wildcard for that family alone."""
    assert not both(entry("web", 8080, address=mine), entry("api", 8080, address=theirs))


def test_three_services_are_one_finding() -> None:
    services = [service(name, entry(name, 8080)) for name in ("a", "b", "c")]
    (finding,) = found(*services)
    assert finding.message == "a, b and c all publish 8080/tcp: only one of them can have it"
    assert finding.services == ("a", "b", "c")


def test_one_service_twice() -> None:
    twice = service("web", entry("web", 8080), entry("web", 8080, target=81))
    assert codes(twice) == [(Severity.CONFLICT, Code.OVERLAP)]
    assert not found(service("web", entry("web", 8080), entry("web", 8080)))  # merged by compose


def test_replicas_on_a_fixed_port() -> None:
    (finding,) = found(service("web", entry("web", 8080), replicas=3))
    assert (finding.level, finding.code) == (Severity.CONFLICT, Code.REPLICAS)
    assert "8080-8082:80" in finding.hint
    assert not found(service("web", entry("web", 8080, 8082), replicas=3))
    assert codes(service("web", entry("web", 8080, 8081), replicas=3)) == [
        (Severity.CONFLICT, Code.REPLICAS)
    ]
    assert not found(service("web", entry("web", None), replicas=3))


def test_a_service_without_containers_publishes_nothing() -> None:
    assert not found(service("web", entry("web", 8080)), service("b", entry("b", 8080), replicas=0))


def test_a_range_shares_with_a_single_port() -> None:
    wide, single = entry("web", 8000, 8001), entry("api", 8000)
    assert both(wide, single) == [(Severity.WARNING, Code.RANGE_OVERLAP)]
    assert both(wide, entry("api", 8002)) == []
    full = codes(service("web", wide, replicas=2), service("api", single))
    assert full == [(Severity.CONFLICT, Code.RANGE_FULL)]


def test_ranges_that_together_are_too_small() -> None:
    three = [service(name, entry(name, 8000, 8001)) for name in ("a", "b", "c")]
    assert (Severity.CONFLICT, Code.RANGE_FULL) in codes(*three)
    assert {level for level, _ in codes(*three[:2])} == {Severity.WARNING}


@pytest.mark.parametrize(
    ("mode", "level", "code"),
    [
        ("host", Severity.WARNING, Code.HOST_NETWORK),
        ("none", Severity.WARNING, Code.NO_NETWORK),
        ("service:db", Severity.CONFLICT, Code.SHARED_NETWORK),
        ("container:abc", Severity.CONFLICT, Code.SHARED_NETWORK),
    ],
)
def test_networks_that_publish_nothing(mode: str, level: Severity, code: Code) -> None:
    lonely = service("web", entry("web", 8080), network_mode=mode)
    assert codes(lonely, service("api", entry("api", 8080))) == [(level, code)]
    assert not found(service("web", network_mode=mode))


def test_what_is_not_a_port() -> None:
    bad = Published("web", 80, text="abc:80", error="'abc' is not a port")
    (finding,) = found(service("web", bad))
    assert (finding.level, finding.code) == (Severity.CONFLICT, Code.NOT_A_PORT)
    assert "abc:80" in finding.message


def test_sctp_is_named_as_unchecked() -> None:
    services = [service(name, entry(name, 8080, transport="sctp")) for name in ("web", "api")]
    assert codes(*services) == [(Severity.WARNING, Code.UNCHECKED)] * 2


def test_the_ephemeral_range() -> None:
    assert codes(service("web", entry("web", 40000))) == [(Severity.WARNING, Code.EPHEMERAL)]
    [warned] = found(
        service("web", entry("web", 40000)),
        service("db", entry("db", 40001), entry("db", 8080), entry("db", 40003)),
        service("media", entry("media", 50000, 50009)),
    )
    assert warned.services == ("web", "db", "media")
    assert {each.port for each in warned.requests} == {40000, 40001, 40003, *range(50000, 50010)}
    assert warned.message.startswith(
        "40000/tcp of web, 40001/tcp and 40003/tcp of db, 50000/tcp to 50009/tcp of media are in "
    )
    reserved = HostLimits(ephemeral=range(32768, 61000), reserved=frozenset({40000}))
    assert not found(service("web", entry("web", 40000)), machine=reserved)


@pytest.mark.parametrize(("uid", "warned"), [(0, False), (None, False), (1000, True)])
def test_privileged_ports_of_a_rootless_engine(uid: int | None, warned: bool) -> None:  # noqa: FBT001
    machine = HostLimits(first_unprivileged=1024, engine_uid=uid)
    expected = [(Severity.WARNING, Code.PRIVILEGED)] if warned else []
    assert codes(service("web", entry("web", 443)), machine=machine) == expected
    assert not found(service("web", entry("web", 1024)), machine=machine)


# --- a media server's ten thousand ports ----------------------------------------------------------


def calls(count: int) -> int:
    """How many functions are called to look at a project with so many ports, and to judge them."""
    ports = (entry("web", 10000 + each, target=10000 + each) for each in range(count))
    project = ComposeProject("shop", Path("/srv/shop"), (), (service("web", *ports),))
    made = 0

    def counting(_frame: object, event: str, _: Any) -> None:  # noqa: ANN401 - the interpreter's
        nonlocal made
        made += event == "call"

    sys.setprofile(counting)
    try:
        conflicts.find(project, ORDINARY)
        holders.entries(Facts(project, {}))
    finally:
        sys.setprofile(None)
    return made


def test_the_work_grows_with_the_ports_and_not_with_their_pairs() -> None:
    assert calls(400) < 3 * calls(200)
