"""Containers of today's rootless Docker: freed by their own engine, for its user and for root."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.ports import free_port, is_free
from tests.lab.processes import wait_until

if TYPE_CHECKING:
    from tests.today.conftest import User

pytestmark = pytest.mark.root
DOCKER = ("docker", "-H", "unix:///run/user/1500/docker.sock")


@pytest.mark.parametrize("caller", ["root", "alice"])
def test_a_container_is_stopped_by_its_own_engine(users: dict[str, User], caller: str) -> None:
    alice, port, name = users["alice"], free_port(), f"freed-by-{caller}"
    alice(*DOCKER, "run", "-d", "--name", name, "--stop-timeout=1", "-p", f"{port}:80",
          "box", "httpd", "-f", "-p", "80")  # fmt: skip
    wait_until(lambda: not is_free(port), "the server is up")

    report = users[caller].ultra("resolve", str(port))

    [port_report] = report["ports"]
    assert (report["exit_status"], port_report["verdict"]) == (0, "freed"), report
    for holder in port_report["holders"]:
        assert (holder["kind"], holder["container"]["name"]) == ("container", name)
        assert holder["step"]["command_lines"] == [f"{' '.join(DOCKER)} stop {name}"]
    assert is_free(port)
    assert alice(*DOCKER, "inspect", "--format={{.State.Status}}", name) == "exited"
