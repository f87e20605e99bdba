"""Units that want a port back, and units that are never stopped from here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.ports import free_port
from tests.lab.processes import wait_until

if TYPE_CHECKING:
    from tests.lab.systemd import Machine

pytestmark = [pytest.mark.systemd, pytest.mark.slow]

LEFT_OVER = """\
[Service]
ExecStart=/bin/sh -c 'python3 -m http.server {port} & sleep 1; wait'
KillMode=process
Restart=always
RestartSec=1
[Unit]
StartLimitIntervalSec=0
"""
WAY_IN = "[Socket]\nListenStream={port}\nService={service}\n"
SSHD = "[Service]\nExecStart=/usr/sbin/sshd -D\n"


def test_a_left_over_that_its_unit_wants_back(machine: Machine) -> None:
    port = free_port()
    unit = f"lab-left{port}.service"
    machine.write(unit, LEFT_OVER.format(port=port))
    machine.systemctl("start", unit)
    wait_until(lambda: not machine.is_free(port), "the server is up")
    machine.run("kill", "-9", str(machine.main_pid(unit)))
    restarted = ("show", unit, "--property=NRestarts", "--value")
    wait_until(lambda: int(machine.systemctl(*restarted)) > 0, "the unit was started again")

    run = machine.ultra("resolve", "--json", str(port))

    assert run.status == 3, run.stdout
    [holder] = run.port(f"{port}/tcp")["holders"]
    assert holder["manager"]["name"] == unit
    assert "wants this port" in holder["step"]["why"]
    assert machine.ultra("resolve", "--stop-services", str(port)).status == 0
    assert machine.is_free(port)
    assert not machine.is_active(unit)


@pytest.mark.parametrize("name", ["ssh.socket", "lab-door{port}.socket"])
def test_the_way_in_is_never_stopped(machine: Machine, name: str) -> None:
    """By its name, or by the program that it starts."""
    port = free_port()
    socket, service = name.format(port=port), f"lab-daemon{port}.service"
    machine.write(socket, WAY_IN.format(port=port, service=service))
    machine.write(service, SSHD)
    machine.systemctl("start", socket)
    wait_until(lambda: machine.is_active(socket), "it listens")

    for options in ((), ("--stop-services", "--force", "--accept-loss")):
        run = machine.ultra("resolve", "--json", *options, str(port))
        assert run.status == 3, run.stdout
        [holder] = run.port(f"{port}/tcp")["holders"]
        assert holder["kind"] == "protected"
        assert holder["step"]["command_lines"][0].startswith(f"systemctl cat {socket}")
        assert machine.is_active(socket)
    machine.systemctl("stop", socket)
