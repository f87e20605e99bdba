"""The kernel's own way of gathering and the portable one say the same of the same machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.cli import ultra
from tests.lab.ports import free_port
from tests.lab.processes import answered_by, wait_until
from tests.lab.supervisord import program, serving

if TYPE_CHECKING:
    from tests.lab.engine import Engine
    from tests.lab.processes import Lab
    from tests.lab.supervisord import Supervisor

PSUTIL = {"ULTRA_PORTS_GATHER": "psutil"}
COMMANDS = (("who", "--complete"), ("resolve", "--dry-run"))


def assert_same(*ports: str | int) -> dict[str, Any]:
    """Asserts that both ways report the same, for `who` and for `resolve`; the former's report."""
    words = tuple(map(str, ports))
    reports: list[dict[str, Any]] = []
    for command in COMMANDS:
        native = ultra(*command, "--json", *words)
        portable = ultra(*command, "--json", *words, env=PSUTIL)
        assert (native.status, native.json) == (portable.status, portable.json)
        reports.append(native.json)
    return reports[0]


def kinds(report: dict[str, Any]) -> list[str]:
    return [holder["kind"] for port in report["ports"] for holder in port["holders"]]


@pytest.mark.root
def test_a_hidden_owner_but_for_what_the_kernel_alone_tells_of_it(
    lab: Lab, as_nobody: tuple[str, ...]
) -> None:
    port = free_port()
    lab.start("answering", port)
    runs = [
        ultra("who", "--json", str(port), prefix=("env", *way, *as_nobody))
        for way in ([], ["ULTRA_PORTS_GATHER=psutil"])
    ]
    native, portable = (run.port(f"{port}/tcp")["holders"][0] for run in runs)
    told = {"chain": ["a process of user root"], "evidence": ["the socket belongs to user root"]}
    assert {name: native[name] for name in told} == told
    step = portable["step"]
    said = step | {"why": step["why"].replace("held by somebody", "held by root")}
    assert native == portable | told | {"step": said}
    assert native["kind"] == "hidden"


@pytest.mark.engine
def test_containers(engine: Engine) -> None:
    port, other = free_port(), free_port()
    web = engine.publish(f"{port}:80", options=["--restart=always"])
    host = engine.start("--network=host", listen=other)
    web.wait_for(port)
    host.wait_for(other)
    assert set(kinds(assert_same(port, other))) == {"container"}


@pytest.mark.supervisord
def test_a_supervised_program(supervisor: Supervisor) -> None:
    port = free_port()
    supervisor.start(program("web", serving(port), "true"))
    wait_until(lambda: answered_by(port), f"a server answers on {port}")
    assert kinds(assert_same(port)) == ["service"]
