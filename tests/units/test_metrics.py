"""Prometheus's text format, as its own client reads it: whatever a name is, it is one label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from resolver.health.metrics import Readings, exposition
from resolver.health.model import Answer, HealthReport, Reach, ServiceHealth, Target
from resolver.leases.belonging import Belongs
from resolver.model import (
    Binding,
    Classification,
    Holder,
    HolderReport,
    Kind,
    PortNumber,
    PortRequest,
    Process,
    ProcessIdentity,
    SocketState,
    Transport,
    Verdict,
)
from resolver.report.escape import escape

if TYPE_CHECKING:
    from resolver.model import Pid

PORT = PortRequest(PortNumber(8085))
ANYTHING = st.text(st.characters(exclude_categories=()), max_size=300)


def samples(seen: Readings) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(exposition(seen)):
        for sample in family.samples:
            name = sample.name.removeprefix("ultra_ports_")
            found.setdefault(name, []).append((dict(sample.labels), sample.value))
    return found


def held_by(*names: str) -> tuple[HolderReport, ...]:
    found = []
    for number, name in enumerate(names, 1):
        pid: Pid = number  # type: ignore[assignment]
        binding = Binding(Transport.TCP, "0.0.0.0", PORT.port)
        process = Process(ProcessIdentity(pid, 1), name)
        holder = Holder(binding, SocketState.LISTENING, (process,))
        found.append(HolderReport(Classification(holder, Kind.LOCAL)))
    return tuple(found)


def service(name: str = "", *, healthy: bool | None = True, holders: str = "node") -> ServiceHealth:
    target = Target(name, PORT)
    return ServiceHealth(target, healthy, Reach.HELD, Belongs.OWN, "", held_by(*holders.split("|")))


def seen(*services: ServiceHealth) -> Readings:
    return Readings(HealthReport(1.5, services))


@given(ANYTHING, ANYTHING)
def test_a_name_is_one_label(name: str, project: str) -> None:
    holders = held_by(name)
    health = replace(service(), holders=holders)
    found = samples(Readings(HealthReport(1.5, (health,)), leases={(project, False): 1}))

    [(labels, value)] = found["port_holder_info"]
    assert (labels["holder"], value) == (escape(name), 1.0)
    [(labels, value)] = found["leases"]
    assert (labels["project"], value) == (escape(project), 1.0)
    exposition(Readings(HealthReport(1.5, (health,)))).encode()  # there is nothing left to refuse


def test_a_series_appears_once() -> None:
    same = service("api", holders="node|node|nginx")
    found = samples(seen(same, same))
    assert len(found["port_up"]) == 1
    assert sorted(labels["holder"] for labels, _ in found["port_holder_info"]) == ["nginx", "node"]


def test_what_is_not_known_is_not_up() -> None:
    found = samples(seen(service("a"), service("b", healthy=False), service("c", healthy=None)))
    assert [value for _, value in found["port_up"]] == [1.0, 0.0, 0.0]
    assert [labels["health"] for labels, _ in found["port_info"]] == [
        "healthy",
        "unhealthy",
        "unknown",
    ]


def test_only_answers_have_a_time() -> None:
    answers = (
        Answer("127.0.0.1", Reach.SPEAKS, seconds=0.25),
        Answer("::1", Reach.FREE, seconds=0.1),
        Answer("", Reach.ACCEPTS, seconds=1e-9),
    )
    health = replace(service(), answers=answers)
    times = [
        (labels["from"], value) for labels, value in samples(seen(health))["port_answer_seconds"]
    ]
    assert times == [("127.0.0.1", 0.25), ("", 1e-9)]


def test_a_check_that_failed() -> None:
    found = samples(Readings(None))
    assert found["check_success"] == [({}, 0.0)]
    assert "port_up" not in found
    assert "leases" not in found


def test_counters() -> None:
    found = samples(
        Readings(None, looks=7, respawns={PORT: 3}, leases={}, outcomes={Verdict.FREED: 2})
    )
    assert found["looks_total"] == [({}, 7.0)]
    [(labels, value)] = found["port_respawns_total"]
    assert (labels["port"], value) == ("8085", 3.0)
    assert found["resolve_outcomes_total"] == [({"verdict": "freed"}, 2.0)]
