"""A quadlet's container is its unit's, and the unit is stopped by the systemd that keeps it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.ports import free_port, is_free
from tests.lab.processes import stays_free, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.today.conftest import User

pytestmark = pytest.mark.root
UNITS = Path("/home/alice/.config/containers/systemd")
SYSTEMCTL = ("systemctl", "--user")
SUDO = "sudo -u alice env XDG_RUNTIME_DIR=/run/user/1500 "
QUADLET = """
[Container]
Image=localhost/box
Exec=httpd -f -p 80
PublishPort={port}:80
StopTimeout=1
[Service]
Restart=always
[Quadlet]
DefaultDependencies=false
"""


@pytest.fixture(params=["root", "alice"])
def caller(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def port(users: dict[str, User], caller: str) -> Iterator[int]:
    """What the unit `of-CALLER.service` of Alice publishes."""
    alice, port = users["alice"], free_port()
    file = UNITS / f"of-{caller}.container"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(QUADLET.format(port=port))
    try:
        alice(*SYSTEMCTL, "daemon-reload")
        alice(*SYSTEMCTL, "start", f"of-{caller}.service")
        wait_until(lambda: not is_free(port), "the unit is up")
        yield port
    finally:
        alice(*SYSTEMCTL, "stop", f"of-{caller}.service", check=False)
        file.unlink()


def test_the_unit_is_stopped_where_it_may_be(
    users: dict[str, User], caller: str, port: int
) -> None:
    unit, sudo = f"of-{caller}.service", SUDO if caller == "root" else ""

    advised = users[caller].ultra("resolve", str(port))
    still_held = not is_free(port)
    report = users[caller].ultra("resolve", "--stop-services", str(port))

    assert (advised["exit_status"], still_held) == (3, True), advised
    assert (report["exit_status"], report["ports"][0]["verdict"]) == (0, "freed"), report
    for each in (*advised["ports"][0]["holders"], *report["ports"][0]["holders"]):
        assert (each["kind"], each["confidence"], each["respawn"]) == (
            "service",
            "confirmed",
            "yes",
        )
        assert (each["manager"]["name"], each["manager"]["policy"]) == (unit, "Restart=always")
        assert each["step"]["command_lines"] == [f"{sudo}systemctl --user stop {unit}"]
        assert each["step"]["undo_lines"] == [f"{sudo}systemctl --user start {unit}"]
    assert stays_free(port)
    state = users["alice"](*SYSTEMCTL, "show", unit, "--property=ActiveState", "--value")
    assert state in {"inactive", "failed"}  # httpd does not heed SIGTERM


def test_behind_its_api_socket_the_unit_is_the_manager_too(users: dict[str, User]) -> None:
    """The API's answer has no PID of conmon: it is the parent of the container's main process."""
    alice, port, unit = users["alice"], free_port(), "behind-api.service"
    file, listening = UNITS / "behind-api.container", Path("/run/user/1500/podman/podman.sock")
    file.parent.mkdir(parents=True, exist_ok=True)
    listening.parent.mkdir(exist_ok=True)
    os.chown(listening.parent, 1500, 1500)
    file.write_text(QUADLET.format(port=port))
    serve = [*alice.prefix, "podman", "system", "service", "--time=0", f"unix://{listening}"]
    service = subprocess.Popen(serve, cwd="/")
    try:
        wait_until(listening.exists, "podman serves its API")
        alice(*SYSTEMCTL, "daemon-reload")
        alice(*SYSTEMCTL, "start", unit)
        wait_until(lambda: not is_free(port), "the unit is up")

        report = alice.ultra("resolve", "--stop-services", str(port))

        assert (report["exit_status"], report["ports"][0]["verdict"]) == (0, "freed"), report
        [each, *_] = report["ports"][0]["holders"]
        asked = {engine["endpoint"] for engine in report["engines"] if engine["asked"]}
        assert f"unix://{listening}" in asked
        assert (each["kind"], each["confidence"]) == ("service", "confirmed"), report
        assert each["manager"]["policy"] == "Restart=always"
        assert each["step"]["command_lines"] == [f"systemctl --user stop {unit}"]
        assert stays_free(port)
    finally:
        alice(*SYSTEMCTL, "stop", unit, check=False)
        file.unlink()
        service.terminate()
        service.wait(30)
        listening.unlink(missing_ok=True)
