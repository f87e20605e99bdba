"""Another system on this kernel (systemd-nspawn, LXC), of which no engine knows.

A stand-in: a script with the name of its init, as PID 1 of a PID namespace, and a server below it,
in the cgroup of a unit.
"""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.lab.cli import ultra
from tests.lab.ports import free_port, is_free, is_served
from tests.lab.processes import remove_cgroup, unavailable, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.processes import Lab

pytestmark = pytest.mark.root

HIERARCHIES = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup")


@pytest.fixture
def scope(lab: Lab) -> Iterator[Path]:
    """The cgroup of a machine with one unit, web.service; it goes with the lab."""
    name = f"machine-lab{uuid.uuid4().hex[:8]}.scope"
    for mount in map(Path, HIERARCHIES):
        folder = mount / name / "payload" / "web.service"
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True)
            break
    else:
        unavailable("no cgroup can be made here")
    yield folder
    lab.reap()
    for each in (folder, *list(folder.parents)[:2]):
        remove_cgroup(each)


def system(lab: Lab, folder: Path, port: int, unit: Path | None) -> int:
    """Starts it; the PID of its init."""
    init = folder / "systemd"
    join = f"echo 0 >{unit}/cgroup.procs; " if unit else ""
    serve = f"sh -c '{join}exec busybox httpd -f -p {port}'"
    init.write_text(f"#!/bin/sh\n{serve} &\nwait\n")
    init.chmod(0o755)
    outer = lab.command("unshare", "--pid", "--fork", str(init))
    wait_until(lambda: is_served(port), "it serves")
    [found] = psutil.Process(outer.pid).children()
    return found.pid


def test_a_unit_of_it_is_left_to_it(lab: Lab, scope: Path, tmp_path: Path) -> None:
    port = free_port()
    init = system(lab, tmp_path, port, scope)

    run = ultra("resolve", "--json", "--stop-services", str(port))

    assert run.status == 3, run.stdout
    holder = run.port(f"{port}/tcp")["holders"][0]
    enter = f"nsenter --target {init} --all systemctl"
    assert holder["step"]["command_lines"] == [f"{enter} stop web.service"]
    assert holder["manager"]["name"] == "web.service"
    assert f"web.service of the system {init}" in holder["chain"]
    assert not is_free(port)
    lab.reap()


def test_a_process_of_it_without_a_unit(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    init = system(lab, tmp_path, port, None)

    run = ultra("resolve", "--json", str(port))

    assert run.status == 3, run.stdout
    [command, *_] = run.port(f"{port}/tcp")["holders"][0]["step"]["command_lines"]
    assert command.startswith(f"nsenter --target {init} --all systemctl status ")
    assert not is_free(port)
    lab.reap()


def test_a_sandbox_without_a_systemd_is_a_process(lab: Lab) -> None:
    """Such as bubblewrap's, or `unshare --pid`."""
    port = free_port()
    lab.command("unshare", "--pid", "--fork", "busybox", "httpd", "-f", "-p", str(port))
    wait_until(lambda: is_served(port), "it serves")
    assert ultra("resolve", "--json", "--settle", "0.3", str(port)).status == 0
