"""A real compose project in a folder of its own; it is taken down again."""

from __future__ import annotations

import contextlib
import json
import subprocess
import uuid
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from tests.lab.engine import LABEL, SERVE, Container
from tests.lab.processes import unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.lab.engine import Engine


@cache
def require_plugin() -> None:
    """Skips the test where `docker compose` is missing; that is asked once."""
    try:
        subprocess.run(["docker", "compose", "version"], check=True, capture_output=True)  # noqa: S607
    except (OSError, subprocess.CalledProcessError):
        unavailable("the compose plug-in is missing")


@dataclass(frozen=True, slots=True)
class Project:
    """A compose project, whose services each publish one port and answer with their name."""

    engine: Engine
    folder: Path
    name: str

    def __call__(self, *arguments: str) -> str:
        """Runs `docker compose ARGUMENTS`.

        Raises:
            EngineError: it failed.
        """
        file = str(self.folder / "compose.json")
        return self.engine("compose", "-p", self.name, "-f", file, *arguments)

    def container(self, service: str) -> Container:
        """The service's container."""
        return Container(self.engine, f"{self.name}-{service}-1")

    @property
    def options(self) -> tuple[str, ...]:
        """What names the project to `ultra-ports`."""
        return ("-f", str(self.folder / "compose.json"), "--project", self.name)

    def write(self, services: Mapping[str, Mapping[str, Any]]) -> None:
        """Writes the file anew; each service serves its name on port 80, unless it says otherwise.

        What `services` says of a service is added to that, and replaces it.
        """
        described = {
            service: {
                "image": self.engine.image,
                "command": ["sh", "-c", SERVE.replace("$", "$$")],
                "environment": {"NAME": f"{self.name}-{service}-1", "LISTEN": "80"},
                "labels": {LABEL: self.engine.mark},
                "network_mode": "bridge",  # a network for each project would use up the engine's
                **more,
            }
            for service, more in services.items()
        }
        (self.folder / "compose.json").write_text(json.dumps({"services": described}))


@contextlib.contextmanager
def project(engine: Engine, folder: Path, services: dict[str, int]) -> Iterator[Project]:
    """A project that is not up yet; `services` maps each name to the host port it publishes."""
    require_plugin()
    name = f"lab{engine.mark[:8]}"
    described: dict[str, Any] = {
        service: {
            "image": engine.image,
            "command": ["sh", "-c", SERVE.replace("$", "$$")],
            "environment": {"NAME": f"{name}-{service}-1", "LISTEN": "80"},
            "labels": {LABEL: engine.mark},
            "restart": "always",
            "ports": [f"{port}:80"],
        }
        for service, port in services.items()
    }
    (folder / "compose.json").write_text(json.dumps({"services": described}))
    made = Project(engine, folder, name)
    try:
        yield made
    finally:
        made("down", "--timeout", "1")


@contextlib.contextmanager
def stack(
    engine: Engine, folder: Path, services: Mapping[str, Mapping[str, Any]], name: str = ""
) -> Iterator[Project]:
    """A project of any shape that is not up yet; see `Project.write`."""
    require_plugin()
    folder.mkdir(parents=True, exist_ok=True)
    made = Project(engine, folder, name or f"lab{uuid.uuid4().hex[:10]}")
    made.write(services)
    try:
        yield made
    finally:
        # By its labels, whatever the test made of the file
        engine("compose", "-p", made.name, "down", "--timeout", "1", "--remove-orphans")


def published(*ports: int | str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """A service that publishes its port 80 on host ports, or `ports` entries as they are."""
    entries = [f"{port}:80" if isinstance(port, int) else port for port in ports]
    return {"ports": entries, **more}


def valid(file: Path) -> bool:
    """Whether compose accepts the file, with every profile; skips where there is no compose."""
    require_plugin()
    words = ["docker", "compose", "-f", str(file), "--profile", "*", "config", "--quiet"]
    return subprocess.run(words, check=False).returncode == 0
