"""A process whose main thread has ended looks like a zombie, and still holds its ports.

The portable path cannot see that: psutil reads the descriptors of the main thread alone.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import ultra
from tests.lab.ports import free_port
from tests.lab.processes import answered_by, stays_free, unavailable

if TYPE_CHECKING:
    from tests.lab.processes import Lab

FAST = ("--grace", "1", "--settle", "0.3")


@pytest.mark.native
def test_a_process_whose_main_thread_has_ended(lab: Lab) -> None:
    if os.uname().machine not in {"x86_64", "aarch64"}:
        unavailable("the number of exit(2) is not known here")
    port = free_port()
    server = lab.start("leaderless", port)
    assert answered_by(port) == server.pid

    who = ultra("who", "--json", str(port))

    (holder,) = who.port(f"{port}/tcp")["holders"]
    assert (who.status, holder["kind"]) == (0, "local"), who.stdout
    assert [each["pid"] for each in holder["processes"]] == [server.pid]

    run = ultra("resolve", "--json", *FAST, str(port))

    assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (0, "freed"), run.stdout
    assert server.signals() == ["SIGTERM"]
    assert server.popen.wait(10) == 0
    assert stays_free(port, 0.5)
