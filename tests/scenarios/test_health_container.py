"""`ultra-ports health` as the HEALTHCHECK of an image: nobody's rights, no network, no engine."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.lab import compose
from tests.lab.cli import COMMAND
from tests.lab.processes import ROOT, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.engine import Container, Engine

pytestmark = [pytest.mark.engine, pytest.mark.slow]

REPLY = "read line; printf 'HTTP/1.1 %s OK\\r\\n\\r\\n' \"$STATUS\""
SERVE = 'nc -ll -p 8080 -e sh -c "$REPLY" & trap "exit 0" TERM; wait; sleep 1000 & wait'
LOCKED_UP = ("--read-only", "--network=none", "--user=65534:65534", "--cap-drop=ALL")


def installation() -> list[str]:
    """This installation with all that it needs, for a container to use as it is."""
    places = dict.fromkeys(["/usr", "/lib", "/lib64", sys.prefix, sys.base_prefix, str(ROOT)])
    return [f"--volume={place}:{place}:ro" for place in places if os.path.isdir(place)]  # noqa: PTH112


def start(engine: Engine, check: str, *options: str, status: int = 200) -> Container:
    return engine.start(
        *installation(),
        *LOCKED_UP,
        *options,
        f"--env=REPLY={REPLY}",
        f"--env=STATUS={status}",
        f"--health-cmd={COMMAND} health {check}",
        *("--health-interval=1s", "--health-retries=1", "--health-timeout=20s"),
        script=SERVE,
    )


def becomes(container: Container, wanted: str) -> None:
    def told() -> str:
        return container.inspect("{{json .State.Health}}")

    wait_until(
        lambda: container.inspect("{{.State.Health.Status}}") == wanted,
        f"the container is {wanted}: {told()}",
        60.0,
    )


def end_the_server(container: Container) -> None:
    """Kills the program of the container, and leaves its first process alone."""
    for child in psutil.Process(container.pid).children():
        if child.name() in {"nc", "busybox"}:
            os.kill(child.pid, signal.SIGKILL)


def test_a_container_becomes_healthy_and_unhealthy(engine: Engine) -> None:
    web = start(engine, "--probe /healthz 8080")
    becomes(web, "healthy")
    assert "HTTP 200" in web.inspect("{{json .State.Health.Log}}")
    end_the_server(web)
    becomes(web, "unhealthy")
    assert "nobody holds it" in web.inspect("{{json .State.Health.Log}}")
    assert web.state == "running"


def test_a_server_that_is_in_trouble_is_unhealthy(engine: Engine) -> None:
    web = start(engine, "--probe /healthz 8080", status=503)
    becomes(web, "unhealthy")
    assert "HTTP 503" in web.inspect("{{json .State.Health.Log}}")


def test_the_project_file_of_an_image_is_enough(engine: Engine, tmp_path: Path) -> None:
    """Its command is run too, since it is root's: the file says more than a port."""
    file = tmp_path / "ultra-ports.toml"
    file.write_text(
        '[services]\nweb = { port = 8080, health = "/healthz" }\n'
        'mind = { port = 8080, health = ["sh", "-c", "test $PORT = 8080"] }\n',
        encoding="utf-8",
    )
    tmp_path.chmod(0o755)
    file.chmod(0o644)
    web = start(engine, "--json", f"--volume={tmp_path}:/application:ro", "--workdir=/application")
    becomes(web, "healthy")


def test_compose_waits_until_a_service_is_healthy(engine: Engine, tmp_path: Path) -> None:
    """`docker compose up --wait` goes by it, and so does `depends_on: service_healthy`."""
    tmp_path.chmod(0o755)
    probe = {
        "test": ["CMD", COMMAND, "health", "-q", "--probe", "/healthz", "8080"],
        "interval": "1s",
        "timeout": "20s",
    }
    service = {
        "command": ["sh", "-c", SERVE.replace("$", "$$")],
        "environment": {"REPLY": REPLY.replace("$", "$$"), "STATUS": "200"},
        "volumes": [volume.removeprefix("--volume=") for volume in installation()],
        "healthcheck": probe,
        "network_mode": "none",
        "read_only": True,
        "user": "65534:65534",
    }
    with compose.stack(engine, tmp_path, {"web": service}) as project:
        project("up", "--detach", "--wait", "--wait-timeout", "60")
        becomes(project.container("web"), "healthy")
