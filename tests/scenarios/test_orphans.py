"""What nobody would ever end: a docker-proxy without a container, and the like."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import ultra
from tests.lab.engine import forwarders
from tests.lab.ports import free_port
from tests.lab.processes import alive, stays_free, unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.engine import Engine

pytestmark = [pytest.mark.engine, pytest.mark.root]


@contextmanager
def orphan(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The real docker-proxy, started by us instead of an engine, for a container that is gone."""
    program = shutil.which(
        "docker-proxy", path="/usr/sbin:/usr/bin:/usr/libexec/docker:/usr/local/bin"
    )
    if program is None:
        unavailable("docker-proxy is missing")
    words = ["-proto", "tcp", "-host-ip", "127.0.0.1", "-host-port", str(port)]
    words += ["-container-ip", "172.31.255.254", "-container-port", "80"]
    told, telling = os.pipe()  # it says on descriptor 3 that it is ready

    def as_three() -> None:
        os.dup2(telling, 3)

    with subprocess.Popen([program, *words], pass_fds=(3, telling), preexec_fn=as_three) as proxy:  # noqa: PLW1509
        os.close(telling)
        assert os.read(told, 1) == b"0", "docker-proxy did not come up"
        os.close(told)
        try:
            yield proxy
        finally:
            proxy.kill()


def test_a_proxy_without_a_container_is_ended(engine: Engine) -> None:
    port, other = free_port(), free_port()
    web = engine.publish(f"{other}:80")
    web.wait_for(other)
    working = forwarders(other)
    with orphan(port) as proxy:
        run = ultra("resolve", str(port), "--json", "--settle", "0.3")

        report = run.port(f"{port}/tcp")
        assert (run.status, report["verdict"]) == (0, "freed"), run.stdout + run.stderr
        (holder,) = report["holders"]
        assert holder["kind"] == "orphan"
        assert holder["step"]["undo_lines"] == [], "an engine starts a proxy, and nobody else"
        assert holder["ownership"]["whose"] == "unknown", "it works where its engine was started"
        assert "172.31.255.254:80" in " ".join(holder["chain"])
        proxy.wait(timeout=5)
    assert stays_free(port, 0.5)
    assert forwarders(other) == working
    assert all(alive(pid) for pid in working)
    assert web.serves(other)


def test_a_proxy_whose_engine_does_not_answer_is_left_alone(tmp_path: Path) -> None:
    port = free_port()
    dead = tmp_path / "docker.sock"
    dead.touch()
    with orphan(port) as proxy:
        run = ultra("resolve", str(port), "--json", env={"DOCKER_HOST": f"unix://{dead}"})

        assert run.status == 5, run.stdout
        assert run.port(f"{port}/tcp")["verdict"] == "undecided"
        assert proxy.poll() is None


def test_a_proxy_is_left_alone_where_no_engine_was_asked() -> None:
    port = free_port()
    with orphan(port) as proxy:
        run = ultra("resolve", str(port), "--json", "--no-docker")

        assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (3, "refused")
        assert proxy.poll() is None
