"""A real swarm of one node or two, on engines of the lab; never on the machine's own."""

from __future__ import annotations

import contextlib
import subprocess
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.lab.engine import SERVE, Container
from tests.lab.processes import unavailable, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.engine import Engine


@dataclass(frozen=True, slots=True)
class Service:
    """A service that publishes a port on the node itself (`mode=host`)."""

    engine: Engine
    name: str

    @property
    def tasks(self) -> list[Container]:
        """The containers of its tasks that run."""
        label = f"label=com.docker.swarm.service.name={self.name}"
        names = self.engine("ps", "--filter", label, "--format", "{{.Names}}").split()
        return [Container(self.engine, name) for name in names]

    def wait(self, tasks: int) -> None:
        """Returns when that many of its tasks run."""
        wait_until(lambda: len(self.tasks) == tasks, f"{self.name} has {tasks} running tasks")

    def facts(self, template: str) -> str:
        """One fact of the service, by a Go template."""
        return self.engine("service", "inspect", "--format", template, self.name)

    @property
    def replicas(self) -> int:
        """How many replicas are wanted."""
        return int(self.facts("{{.Spec.Mode.Replicated.Replicas}}"))


@contextlib.contextmanager
def swarm(engine: Engine) -> Iterator[None]:
    """Makes the engine a swarm of its own."""
    assert engine.host is not None, "the machine's own engine is left as it is"
    engine("swarm", "init", "--advertise-addr", "127.0.0.1")
    try:
        yield
    finally:
        engine("swarm", "leave", "--force")


@contextlib.contextmanager
def worker(manager: Engine, joins: Engine) -> Iterator[str]:
    """Makes two engines a swarm, of which the second is a worker; the manager's address."""
    address, other = "10.77.7.1", "10.77.7.2"
    for line in (
        f"ip link add lab0 type veth peer name lab1 netns {joins.pid}",
        f"ip address add {address}/24 dev lab0",
        "ip link set lab0 up",
    ):
        subprocess.run([*manager.enter, *line.split()], check=True)
    for line in (f"ip address add {other}/24 dev lab1", "ip link set lab1 up"):
        subprocess.run([*joins.enter, *line.split()], check=True)
    manager("swarm", "init", "--advertise-addr", address)
    try:
        token = manager("swarm", "join-token", "--quiet", "worker")
        joins("swarm", "join", "--token", token, "--advertise-addr", other, f"{address}:2377")
        yield address
        joins("swarm", "leave", "--force")
    finally:
        manager("swarm", "leave", "--force")


@contextlib.contextmanager
def service(engine: Engine, publish: str, *options: str, script: str = SERVE) -> Iterator[Service]:
    """A service that serves on its port 80, as `--publish` has it; removed with its tasks."""
    if engine.host is None:
        unavailable("an engine of the lab is needed")
    made = Service(engine, f"lab-{uuid.uuid4().hex[:12]}")
    words = ["--detach", "--no-resolve-image", f"--publish={publish}", "--env=LISTEN=80"]
    engine("service", "create", f"--name={made.name}", *words, *options, engine.image,
           "sh", "-c", script)  # fmt: skip
    try:
        yield made
    finally:
        engine("service", "rm", made.name)
        wait_until(lambda: not made.tasks, f"the tasks of {made.name} have ended")
