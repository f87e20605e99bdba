"""Containers that live on while their engine is down (dockerd(8), `--live-restore`)."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.lab.cli import ultra
from tests.lab.engine import engine_without_proxy
from tests.lab.ports import free_port
from tests.lab.processes import alive, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.engine import Container, Engine
    from tests.lab.processes import Lab

pytestmark = [pytest.mark.engine, pytest.mark.root, pytest.mark.slow]


@pytest.fixture
def node(lab: Lab) -> Iterator[tuple[Engine, tuple[str, ...]]]:
    """An engine that may go away, and a command that runs another in its network namespace."""
    # Who has an address is looked up in every namespace: no other engine's container has this one
    bridge = f"--bip=10.{100 + os.getpid() % 100}.{os.getpid() // 100 % 250}.1/24"
    with engine_without_proxy("--live-restore", bridge) as engine:
        keeper = lab.command(*engine.enter, "sleep", "600")
        wait_until(lambda: psutil.Process(keeper.pid).name() == "sleep", "it is in the namespace")
        yield engine, ("nsenter", f"--net=/proc/{keeper.pid}/ns/net", "--")


@contextlib.contextmanager
def left_alone(engine: Engine, *containers: Container) -> Iterator[None]:
    """The containers run, and dockerd does not; at the end nothing of them runs."""
    mains = [psutil.Process(each.pid) for each in containers]
    family = [*mains, *(above for each in mains if (above := each.parent()))]
    family += psutil.Process(engine.pid).children()
    os.kill(engine.pid, signal.SIGKILL)
    wait_until(lambda: not alive(engine.pid), "dockerd has gone")
    try:
        assert all(each.is_running() for each in mains)
        yield
    finally:
        for each in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        _, left = psutil.wait_procs(family, 10)
        assert not left


@pytest.mark.parametrize("network", ["published", "host"])
def test_a_container_without_its_engine_is_named_and_the_engine_is_to_be_started(
    node: tuple[Engine, tuple[str, ...]], network: str
) -> None:
    engine, inside = node
    port = free_port()
    if network == "published":
        web = engine.publish(f"{port}:80")
    else:
        web = engine.start("--network=host", listen=port)
    web_pid, name, image = web.pid, web.name, engine.image
    start = ["dockerd", "--data-root", str(engine.socket.parent / "data")]  # no unit starts it

    with left_alone(engine, web):
        run = ultra("resolve", "--json", str(port), env=engine.env, prefix=inside)

        assert run.status == 3, run.stdout + run.stderr
        holders = run.port(f"{port}/tcp")["holders"]
        assert {each["container"]["name"] for each in holders} == {name}
        assert {each["container"]["image"] for each in holders} == {image}
        for each in holders:
            assert each["step"]["commands"] == [start, ["docker", "stop", name]]
            assert each["outcome"] is None
        assert alive(web_pid)


def test_files_in_other_hands_name_nothing(node: tuple[Engine, tuple[str, ...]]) -> None:
    engine, inside = node
    port = free_port()
    web = engine.publish(f"{port}:80")
    short, file = web.id[:12], f"containers/{web.id}/config.v2.json"
    saved = engine.socket.parent / "data" / file

    with left_alone(engine, web):
        saved.chmod(0o666)
        run = ultra("resolve", "--json", str(port), env=engine.env, prefix=inside)

        assert run.status == 3
        [holder] = run.port(f"{port}/tcp")["holders"]
        assert holder["container"]["name"] == short
        assert holder["step"]["commands"] == [["docker", "stop", short]]
