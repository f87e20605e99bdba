"""Processes in scopes of systemd: sessions and `systemd-run --scope` belong to no service."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from tests.lab.ports import free_port
from tests.lab.processes import wait_until
from tests.lab.systemd import USER, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.systemd import Machine

pytestmark = [pytest.mark.systemd, pytest.mark.engine, pytest.mark.slow]

FAST = ("--settle", "0.3", "--grace", "2", "--json")


@pytest.fixture
def scope(machine: Machine) -> Iterator[str]:
    """The name of a scope that is this test's alone, stopped at the end."""
    name = f"lab-{uuid.uuid4().hex[:12]}.scope"
    yield name
    for user in (True, False):
        machine.systemctl("stop", name, user=user)


def run_in_scope(machine: Machine, scope: str, port: int, *, user: bool) -> int:
    """Runs a lab server by `systemd-run --scope`; returns the PID that answers."""
    manager = ("--user",) if user else ()
    settings = [f"{name}={value}" for name, value in USER.items()] if user else []
    start = ("systemd-run", *manager, "--scope", f"--unit={scope}", *serving(port).split())
    machine.run("env", *settings, "sh", "-c", '"$@" >/dev/null 2>&1 &', "sh", *start)
    return machine.wait_for(port)


@pytest.mark.parametrize("user", [True, False], ids=["user", "system"])
def test_a_process_in_a_scope_is_local(machine: Machine, scope: str, user: bool) -> None:  # noqa: FBT001
    port = free_port()
    if user:
        machine.systemctl("start", "user@0.service")
        wait_until(
            lambda: machine.systemctl("is-system-running", user=True) in {"running", "degraded"},
            "the user's own systemd is up",
        )
    pid = run_in_scope(machine, scope, port, user=user)
    assert scope in machine.run("cat", f"/proc/{pid}/cgroup")

    run = machine.ultra("resolve", *FAST, str(port), **(USER if user else {}))

    assert run.status == 0, run.stdout + run.stderr
    report = run.port(f"{port}/tcp")
    assert report["verdict"] == "freed"
    (found,) = report["holders"]
    assert (found["kind"], found["manager"]) == ("local", None)
    assert [each["pid"] for each in found["processes"]] == [pid]
    assert machine.stays_free(port)
