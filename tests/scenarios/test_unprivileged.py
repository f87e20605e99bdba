"""Another user's socket, seen without privilege: its unit or container is named all the same.

The kernel tells everybody the cgroup v2 id of a socket, so this needs a machine that has cgroup v2
mounted, beside v1 or alone.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import Run, reported, ultra
from tests.lab.ports import free_port
from tests.lab.processes import answered_by, remove_cgroup, stays, unified
from tests.lab.systemd import service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.engine import Engine
    from tests.lab.processes import Lab
    from tests.lab.systemd import Machine

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def commands(run: Run, port: int) -> list[str]:
    (holder,) = run.port(f"{port}/tcp")["holders"]
    return list(holder["step"]["command_lines"])


@pytest.mark.systemd
@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.parametrize(
    ("restart", "policy"), [("always", "Restart=always"), ("no", "Restart=no")]
)
def test_a_service_of_root_is_named_for_nobody(machine: Machine, restart: str, policy: str) -> None:
    port, unit = free_port(), f"web{uuid.uuid4().hex[:8]}.service"
    machine.write(unit, service(port, restart))
    machine.systemctl("start", unit)
    pid = machine.wait_for(port)
    as_nobody = (*machine.enter(), *NOBODY)

    run = ultra("resolve", "--json", str(port), prefix=as_nobody)

    report = reported(run, port, 4, "hidden")
    (holder,) = report["holders"]
    assert (holder["kind"], holder["manager"]["name"]) == ("service", unit)
    assert holder["manager"]["policy"] == policy
    assert holder["processes"] == []
    assert f"sudo systemctl stop {unit}" in commands(run, port)
    assert any(f"/{unit}" in fact for fact in holder["evidence"])
    assert machine.main_pid(unit) == machine.server(port) == pid

    who = ultra("who", "--json", str(port), prefix=as_nobody)
    assert who.status == 4
    assert who.port(f"{port}/tcp")["holders"][0]["manager"]["name"] == unit
    machine.systemctl("stop", unit)


@pytest.mark.native
@pytest.mark.engine
@pytest.mark.root
def test_a_container_on_the_hosts_network_is_named_for_nobody(
    engine: Engine, as_nobody: tuple[str, ...]
) -> None:
    port = free_port()
    web = engine.start("--network=host", listen=port)
    web.wait_for(port)

    run = ultra("resolve", "--json", str(port), prefix=as_nobody)

    report = reported(run, port, 4, "hidden")
    assert report["holders"][0]["container"]["id"] == web.id
    assert f"sudo docker stop {web.id[:12]}" in commands(run, port)
    assert web.serves(port)


@pytest.fixture
def engine_unit() -> Iterator[Path]:
    """A cgroup with the name of the engine's own unit: a stand-in for a docker.service."""
    folder = unified() / f"lab{uuid.uuid4().hex[:8]}.slice" / "docker.service"
    folder.mkdir(parents=True)
    yield folder
    remove_cgroup(folder)
    remove_cgroup(folder.parent)


@pytest.mark.native
@pytest.mark.root
def test_nobody_is_never_told_to_stop_the_engine(
    lab: Lab, as_nobody: tuple[str, ...], engine_unit: Path
) -> None:
    port = free_port()
    procs = engine_unit / "cgroup.procs"
    server = lab.start("answering", port, prefix=("sh", "-c", f'echo $$ >{procs}; exec "$@"', "sh"))

    run = ultra("resolve", "--json", "--no-docker", str(port), prefix=as_nobody)

    (holder,) = run.port(f"{port}/tcp")["holders"]
    assert (run.status, holder["kind"]) == (4, "hidden"), run.stdout
    assert any("docker.service" in fact for fact in holder["evidence"])
    assert not any("docker.service" in command for command in commands(run, port))
    assert stays(lambda: answered_by(port) == server.pid, 0.5)
    lab.reap()
