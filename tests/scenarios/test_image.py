"""The project's own image: built from the Dockerfile on a local base, and run for real."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

import resolver
from tests.lab.cli import Run, ultra
from tests.lab.images import base as images
from tests.lab.ports import free_port
from tests.lab.processes import stays, stays_free

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.lab.engine import Engine
    from tests.lab.processes import Lab

pytestmark = [
    pytest.mark.engine,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("image"),  # one worker builds it for all
]

HOST = ("--pid=host", "--network=host")
TRACE = "--cap-add=SYS_PTRACE"


@pytest.fixture(scope="module")
def built(
    local_engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """The image, and the one that is not root; they go at the end, and so does their base."""
    engine = local_engine.marked()
    context = tmp_path_factory.mktemp("context")
    images.write_context(context)
    base = images.import_python(engine)
    try:
        whole = images.build(engine, base, context)
        unprivileged = images.build(engine, base, context, "unprivileged")
        yield whole, unprivileged
        engine("rmi", "--force", whole, unprivileged)
    finally:
        engine("rmi", "--force", base)


@pytest.fixture
def image(built: tuple[str, str]) -> str:
    return built[0]


@pytest.fixture
def unprivileged(built: tuple[str, str]) -> str:
    return built[1]


def in_image(engine: Engine, image: str, options: Sequence[str], *arguments: str) -> Run:
    """`docker run OPTIONS IMAGE ARGUMENTS`, with the engine's socket where clients look for it."""
    volume = f"--volume={engine.socket}:/var/run/docker.sock"
    mark = f"--label=ultra-ports-lab={engine.mark}"
    done = subprocess.run(
        ["docker", "run", "--rm", mark, volume, *options, image, *arguments],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Run(done.returncode, done.stdout, done.stderr)


def test_it_says_its_version_and_its_usage(engine: Engine, image: str) -> None:
    assert in_image(engine, image, [], "--version").stdout == ultra("--version").stdout
    assert "resolve" in in_image(engine, image, []).stdout


def test_it_frees_a_port_of_the_host(engine: Engine, image: str, lab: Lab) -> None:
    port, other = free_port(), free_port()
    server, bystander = lab.start("answering", port), lab.start("answering", other)

    run = in_image(engine, image, [*HOST, TRACE], "resolve", "--json", "--settle=0.3", str(port))

    assert run.status == 0, run.stdout + run.stderr
    report = run.port(f"{port}/tcp")
    assert report["verdict"] == "freed"
    (holder,) = report["holders"]
    assert holder["kind"] == "local"
    assert [process["pid"] for process in holder["processes"]] == [server.pid]
    assert not server.alive
    assert server.signals() == ["SIGTERM"]
    assert bystander.alive
    assert stays_free(port)


def test_without_the_capability_it_says_what_it_may_not_see(
    engine: Engine, image: str, lab: Lab
) -> None:
    port = free_port()
    server = lab.start("answering", port)

    run = in_image(engine, image, HOST, "resolve", "--json", "--settle=0.3", str(port))

    assert run.status == 4, run.stdout + run.stderr
    assert run.port(f"{port}/tcp")["verdict"] == "hidden"
    assert server.alive
    assert server.signals() == []


def test_it_stops_a_sibling_on_the_host(engine: Engine, image: str) -> None:
    port, other = free_port(), free_port()
    web, bystander = engine.publish(f"{port}:80"), engine.publish(f"{other}:80")
    web.wait_for(port)
    bystander.wait_for(other)

    run = in_image(engine, image, [*HOST, TRACE], "resolve", "--json", "--settle=0.3", str(port))

    assert run.status == 0, run.stdout + run.stderr
    report = run.port(f"{port}/tcp")
    assert report["verdict"] == "freed"
    assert {holder["kind"] for holder in report["holders"]} == {"container"}
    assert {holder["container"]["name"] for holder in report["holders"]} == {web.name}
    assert stays_free(port)
    assert web.state == "exited"
    assert bystander.serves(other)


def test_a_runner_with_only_the_socket_stops_a_sibling(engine: Engine, image: str) -> None:
    """Its own table of sockets is that of another namespace: only the engine's answer counts."""
    port, other = free_port(), free_port()
    web, bystander = engine.publish(f"{port}:80"), engine.publish(f"{other}:80")
    web.wait_for(port)
    bystander.wait_for(other)

    run = in_image(engine, image, [], "resolve", "--json", "--settle=0.3", str(port))

    assert run.status == 0, run.stdout + run.stderr
    report = run.port(f"{port}/tcp")
    assert report["verdict"] == "freed"
    assert {holder["kind"] for holder in report["holders"]} == {"container"}
    assert {holder["container"]["name"] for holder in report["holders"]} == {web.name}
    assert stays_free(port)
    assert bystander.serves(other)


def test_a_runner_never_stops_itself(engine: Engine, image: str) -> None:
    port = free_port()
    options = [f"--publish={port}:80"]

    run = in_image(engine, image, options, "resolve", "--json", "--settle=0.3", str(port))

    assert run.status == 3, run.stdout + run.stderr
    report = run.port(f"{port}/tcp")
    assert report["verdict"] == "refused"
    assert all(holder["outcome"] is None for holder in report["holders"])


def test_a_runner_reports_on_a_sibling_without_touching_it(engine: Engine, image: str) -> None:
    port = free_port()
    web = engine.publish(f"{port}:80")
    web.wait_for(port)

    run = in_image(engine, image, [], "who", "--json", str(port))

    assert run.status == 0, run.stdout + run.stderr
    assert run.port(f"{port}/tcp")["verdict"] == "held"
    assert stays(lambda: web.serves(port), 0.5)


def test_its_labels_are_those_of_the_image_specification(
    engine: Engine, built: tuple[str, str]
) -> None:
    for image in built:
        words = ("image", "inspect", "--format={{json .Config.Labels}}", image)
        labels = json.loads(engine(*words))
        found = {name.removeprefix("org.opencontainers.image."): labels[name] for name in labels}
        assert (found["title"], found["licenses"]) == ("ultra-ports", "MIT")
        assert found["version"] == resolver.__version__


def test_who_is_not_root_waits_for_a_port_and_asks_how_it_is(
    engine: Engine, unprivileged: str, lab: Lab
) -> None:
    port, free = free_port(), free_port()
    server = lab.start("answering", port)
    assert engine("image", "inspect", "--format={{.Config.User}}", unprivileged) == "65532:65532"

    waited = in_image(engine, unprivileged, HOST, "wait", str(port), "--timeout=10")
    healthy = in_image(engine, unprivileged, HOST, "health", "--json", str(port))
    down = in_image(engine, unprivileged, HOST, "health", "--json", str(free))
    run = in_image(engine, unprivileged, HOST, "resolve", "--json", str(port))

    assert waited.status == 0, waited.stderr
    assert healthy.status == 0, healthy.stdout + healthy.stderr
    assert down.status == 1, down.stdout + down.stderr
    assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (4, "hidden")
    assert server.alive
