"""Who runs a container: the manager of its client; what was exec'd into it ends alone."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import Run, holders, ultra
from tests.lab.engine import LABEL, Container
from tests.lab.namespaces import network_namespace
from tests.lab.ports import free_port, is_free, is_served
from tests.lab.processes import alive, unavailable, wait_until
from tests.lab.supervisors import RUNIT, Supervisors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.engine import Engine
    from tests.lab.processes import Lab

pytestmark = pytest.mark.engine


def resolve(port: int, *options: str) -> Run:
    return ultra("resolve", "--json", "--settle", "0.5", *options, str(port))


def foreground(engine: Engine, name: str, port: int) -> str:
    """A command line that keeps a container in the foreground; its main process ignores SIGTERM."""
    mark = f"--label {LABEL}={engine.mark}"
    serve = f"busybox httpd -f -p {port}"
    return f"docker run --rm --name {name} {mark} -p {port}:{port} {engine.image} {serve}"


@pytest.fixture
def runit(tmp_path: Path, engine: Engine) -> Iterator[Supervisors]:
    """It is ended before the engine removes what it started: it would start another one."""
    assert engine.image
    with Supervisors(tmp_path, RUNIT) as service:
        yield service


def test_a_container_that_runit_keeps_in_the_foreground(runit: Supervisors, engine: Engine) -> None:
    port = free_port()
    web = Container(engine, f"lab-runit-{port}")
    runit.start_service(f"exec {foreground(engine, web.name, port)}")
    wait_until(lambda: web.state == "running", "the container is up")

    run = resolve(port)

    assert run.status == 3, run.stdout
    for holder in holders(run, port):
        assert (holder["kind"], holder["manager"]["kind"]) == ("service", "runit")
        assert holder["step"]["command_lines"] == [f"sv -w 60 stop {runit.folder}"]
        assert holder["container"]["name"] == web.name
    assert web.state == "running"

    run = resolve(port, "--stop-services")

    assert run.status == 0, run.stdout
    assert holders(run, port)[0]["step"]["undo_lines"] == [f"sv up {runit.folder}"]
    assert runit.says("down: ")
    assert is_free(port)


def test_a_container_that_a_loop_starts_again(lab: Lab, engine: Engine) -> None:
    port = free_port()
    web = Container(engine, f"lab-loop-{port}")
    start = foreground(engine, web.name, port)
    loop = lab.command("sh", "-c", f"while true; do {start}; sleep 1; done")
    wait_until(lambda: web.state == "running", "the container is up")

    run = resolve(port)

    assert run.status == 3, run.stdout
    assert holders(run, port)[0]["step"]["command_lines"][0].startswith(f"kill {loop.pid} ")
    assert alive(loop.pid)
    assert web.state == "running"
    lab.reap()


def test_a_container_that_somebody_follows_is_stopped(lab: Lab, engine: Engine) -> None:
    port = free_port()
    web = Container(engine, f"lab-follow-{port}")
    lab.command(*foreground(engine, web.name, port).split())
    wait_until(lambda: web.state == "running", "the container is up")

    run = resolve(port)

    assert run.status == 0, run.stdout
    assert holders(run, port)[0]["step"]["kind"] == "stop-container"


def test_what_was_execd_into_a_container_ends_alone(engine: Engine) -> None:
    port = free_port()
    box = engine.start("--network=host", command=("busybox", "sleep", "600"))
    engine("exec", "-d", box.name, "busybox", "httpd", "-f", "-p", str(port))
    wait_until(lambda: is_served(port), "the server is up")

    run = resolve(port)

    assert run.status == 0, run.stdout
    [holder] = holders(run, port)
    assert (holder["kind"], holder["step"]["kind"]) == ("local", "kill")
    undo = f"docker exec -d {box.name} busybox httpd -f -p {port}"
    assert holder["step"]["undo_lines"] == [undo]
    assert box.state == "running"
    assert is_free(port)


def test_a_quadlet_is_its_units(engine: Engine) -> None:
    """A stand-in: a container of Docker's with the label that podman gives to a quadlet's."""
    port = free_port()
    web = engine.publish(f"{port}:80", options=["--label=PODMAN_SYSTEMD_UNIT=web.service"])
    web.wait_for(port)

    run = resolve(port, "--stop-services")

    assert run.status == 3, run.stdout
    assert holders(run, port)[0]["step"]["command_lines"] == ["systemctl stop web.service"]
    assert web.serves(port)


def test_a_device_of_the_kernels_is_named(lab: Lab) -> None:
    if shutil.which("ip") is None:
        unavailable("ip is missing")
    port = free_port()
    with network_namespace(lab) as inside:
        made = ("ip", "link", "add", "v0", "type", "vxlan", "id", "42", "dstport", str(port))
        subprocess.run([*inside, *made, "dev", "lo"], check=True)
        subprocess.run([*inside, "ip", "link", "set", "v0", "up"], check=True)

        run = ultra("resolve", "--json", f"{port}/udp", prefix=inside)

        assert run.status == 3, run.stdout
        [holder] = run.port(f"{port}/udp")["holders"]
        assert holder["chain"] == ["the kernel", "vxlan device v0"]
        assert holder["step"]["command_lines"][0].startswith("ip link del v0")
