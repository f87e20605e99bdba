"""A copy of examples/ with a web application, as a user has it, and ports of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.request
import uuid
from contextlib import suppress
from http.client import HTTPException
from typing import TYPE_CHECKING

from ruamel.yaml import YAML

from tests.lab.cli import Run
from tests.lab.engine import LABEL, SERVE
from tests.lab.ports import free_port, free_range
from tests.lab.processes import ROOT, unavailable
from tests.lab.shells import BIN, WEBAPP, environment

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.engine import Engine
    from tests.lab.processes import Lab

EXAMPLES = ROOT / "examples"


class Workspace:
    """A copy of the examples with a web application, and ports of its own by variables."""

    def __init__(self, folder: Path, lab: Lab) -> None:
        self.folder = folder
        self.lab = lab
        self.project = f"lab{uuid.uuid4().hex[:10]}"
        self.api, self.frontend, self.redis = free_port(), free_port(), free_port()
        first = free_range(20)
        shutil.copytree(EXAMPLES, folder)
        shutil.copytree(WEBAPP / "backend", folder / "backend")
        text = (folder / "ultra-ports.toml").read_text()
        assert "8100-8199" in text
        (folder / "ultra-ports.toml").write_text(text.replace("8100-8199", f"{first}-{first + 19}"))

    @property
    def env(self) -> dict[str, str]:
        """The environment of a user whose ports are these."""
        return {
            **environment(),
            **self.lab.marked(),
            "PYTHONPATH": "",
            "COMPOSE_PROJECT_NAME": self.project,
            **self.ports,
        }

    @property
    def ports(self) -> dict[str, str]:
        """The variables that decide the ports."""
        return {
            "API_PORT": str(self.api),
            "FRONTEND_PORT": str(self.frontend),
            "REDIS_PORT": str(self.redis),
        }

    def run(self, *argv: str, **env: str) -> Run:
        """Runs a program here."""
        done = subprocess.run(
            argv,
            cwd=self.folder,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Run(done.returncode, done.stdout, done.stderr)

    def start(self, *argv: str, **env: str) -> subprocess.Popen[bytes]:
        """Starts a program here; it ends with the test."""
        return self.lab.command(*argv, env={**self.env, **env}, cwd=self.folder)

    def borrow_images(self, engine: Engine) -> None:
        """Lets the services of the compose file run what this machine has."""
        path = self.folder / "docker-compose.yml"
        described = YAML(typ="safe").load(path)
        for name, service in described["services"].items():
            listen = service["ports"][0].rpartition(":")[2]
            service["image"] = engine.image
            service["command"] = ["sh", "-c", SERVE.replace("$", "$$")]
            service["environment"] = {"NAME": name, "LISTEN": listen}
            service["labels"] = {LABEL: engine.mark}
        YAML().dump(described, path)


def tool(name: str) -> str:
    return shutil.which(name, path=f"{BIN}:{os.environ['PATH']}") or unavailable(
        f"{name} is missing"
    )


def got(port: int) -> str:
    """What an HTTP server on the port answers; empty where none does."""
    with suppress(OSError, HTTPException):
        with_pid = f"http://127.0.0.1:{port}/pid"
        return str(urllib.request.urlopen(with_pid, timeout=2).read().decode()).strip()
    return ""
