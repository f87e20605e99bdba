"""Where owners are looked for: in the socket's cgroup, which is quick, or in every process."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import ultra
from tests.lab.ports import free_port, is_free
from tests.lab.processes import remove_cgroup, stays_free, unified, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.engine import Engine
    from tests.lab.processes import Lab

pytestmark = pytest.mark.root
NARROW = "owners were looked for in the cgroup of each socket"


@pytest.fixture
def group(lab: Lab) -> Iterator[Path]:
    """A cgroup of its own, which goes with the lab."""
    folder = unified() / f"lab{uuid.uuid4().hex[:8]}"
    (folder / "below").mkdir(parents=True)
    yield folder
    lab.reap()
    for each in (folder / "below", folder):
        remove_cgroup(each)


def inside(group: Path) -> tuple[str, ...]:
    """A command that runs another in the cgroup."""
    return ("sh", "-c", f'echo $$ >{group}/cgroup.procs; exec "$@"', "sh")


def owners(port: int, *options: str, env: dict[str, str] | None = None) -> tuple[str, set[int]]:
    """Where they were looked for, and the PIDs of those that were found."""
    run = ultra("who", "--json", "--no-docker", *options, str(port), env=env)
    assert run.status == 0, run.stderr
    holders = run.port(f"{port}/tcp")["holders"]
    return run.json["scan"], {each["pid"] for found in holders for each in found["processes"]}


def test_a_cgroup_of_its_own_is_enough(lab: Lab, group: Path) -> None:
    port = free_port()
    server = lab.start("prefork", port, prefix=inside(group))
    scan, found = owners(port)
    assert scan == "cgroup"
    assert server.pid in found
    assert len(found) > 1
    assert owners(port, "--complete") == ("complete", found)
    assert owners(port, env={"ULTRA_PORTS_GATHER": "psutil"}) == ("complete", found)
    assert NARROW in ultra("who", "-v", "--no-docker", str(port)).stderr
    assert NARROW not in ultra("who", "--no-docker", str(port)).stderr


def test_a_worker_in_a_cgroup_below_is_found(lab: Lab, group: Path) -> None:
    port = free_port()
    server = lab.start("prefork", port, prefix=inside(group))
    _, before = owners(port)
    worker = max(before - {server.pid})
    (group / "below" / "cgroup.procs").write_text(str(worker))
    assert owners(port) == ("cgroup", before)


def test_an_owner_that_moved_away_is_found_by_the_whole_scan(lab: Lab, group: Path) -> None:
    port = free_port()
    server = lab.start("answering", port, prefix=inside(group))
    (unified() / "cgroup.procs").write_text(str(server.pid))
    assert owners(port) == ("complete", {server.pid})


def test_resolve_looks_everywhere(lab: Lab, group: Path) -> None:
    port = free_port()
    server = lab.start("prefork", port, prefix=inside(group))
    _, before = owners(port)
    worker = max(before - {server.pid})
    (unified() / "cgroup.procs").write_text(str(worker))
    assert owners(port) == ("cgroup", before - {worker})
    assert owners(port, "--complete") == ("complete", before)

    run = ultra("resolve", "--json", "--settle", "0.3", str(port))

    assert run.status == 0, run.stdout + run.stderr
    assert run.json["scan"] == "complete"
    (holder,) = run.port(f"{port}/tcp")["holders"]
    assert {each["pid"] for each in holder["processes"]} == before
    assert stays_free(port, 0.5)


@pytest.mark.engine
def test_a_server_inside_of_the_container_that_has_the_port_is_no_neighbour(
    engine: Engine,
) -> None:
    port, inner = free_port(), free_port()
    engine.start(f"--publish={port}:{port}", listen=port).wait_for(port)
    hidden = engine.start(listen=inner)
    wait_until(lambda: "another network namespace" in notes(inner), "it serves there")
    assert hidden.state == "running"
    assert "network namespace" not in notes(port)


def test_a_published_port_in_the_ephemeral_range_is_remarked_on(engine: Engine) -> None:
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    port = next(each for each in range(last, first, -1) if is_free(each))
    engine.publish(f"127.0.0.1:{port}:80").wait_for(port)
    assert "ephemeral range" in notes(port)


def notes(port: int) -> str:
    """What is said beside the holders."""
    return " ".join(ultra("who", "--json", str(port)).port(f"{port}/tcp")["notes"])
