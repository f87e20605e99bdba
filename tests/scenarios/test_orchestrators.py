"""Containers that come back when they are stopped: Swarm for real; Kubernetes and Nomad by labels.

Neither of the latter runs here. The containers are real ones, with the labels that a kubelet and
Nomad's docker driver leave; what `kubectl` and `nomad` say of them is recorded from their
documentation (kubernetes.io/docs/reference/kubernetes-api, developer.hashicorp.com/nomad/api-docs).
"""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.lab import swarm
from tests.lab.cli import Run, ultra
from tests.lab.engine import SERVE, engine_without_proxy
from tests.lab.ports import free_port
from tests.lab.processes import stays, stays_free, unavailable, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.engine import Container, Engine

pytestmark = [pytest.mark.engine, pytest.mark.slow]

FAST = ("--settle", "0.3", "--json")
POD, UID = "web-7d9f8c6b5d-x2x4z", "6f1c2a52-8a39-4f0e-9f43-1f0d9c1f2a11"
KUBERNETES = {
    "io.kubernetes.container.name": "web",
    "io.kubernetes.docker.type": "container",
    "io.kubernetes.pod.name": POD,
    "io.kubernetes.pod.namespace": "shop",
    "io.kubernetes.pod.uid": UID,
}
ALLOCATION = "5456bd7a-9fc0-c0dd-6131-cbee77f57577"
NOMAD = {"com.hashicorp.nomad.alloc_id": ALLOCATION}


@pytest.fixture(scope="module")
def in_swarm(second_engine: Engine) -> Iterator[None]:
    with swarm.swarm(second_engine):
        yield


@pytest.fixture
def node(engine_without_proxy: Engine, in_swarm: None) -> Engine:  # noqa: ARG001 - made a swarm
    """A node of a swarm: an engine with a network namespace of its own."""
    return engine_without_proxy


def on_node(node: Engine, *arguments: str, default: bool = True) -> Run:
    """Runs the command in the node's namespace; `default` makes it the chosen engine there."""
    return ultra(*arguments, env=node.env if default else {}, prefix=node.enter)


def holder_of(run: Run, port: int) -> dict[str, Any]:
    """The first holder of the port, when all of them are one service."""
    holders = run.port(f"{port}/tcp")["holders"]
    assert {holder["kind"] for holder in holders} == {"service"}, run.stdout
    first: dict[str, Any] = holders[0]
    return first


def in_node(node: Engine, command: str) -> None:
    """Runs a printed line as the reader would."""
    node(*shlex.split(command)[1:])


def test_a_swarm_service_is_not_stopped_behind_swarms_back(node: Engine) -> None:
    port = free_port()
    publish = f"mode=host,published={port},target=80"
    with swarm.service(node, publish, "--replicas=2", "--label=com.docker.stack.namespace=shop",
                       "--container-label=com.docker.stack.namespace=shop") as web:  # fmt: skip
        web.wait(1)  # the other one finds no node with a free port
        (task,) = web.tasks

        run = on_node(node, "resolve", *FAST, str(port))

        assert run.status == 3, run.stdout + run.stderr
        assert run.port(f"{port}/tcp")["verdict"] == "advised"
        holder = holder_of(run, port)
        assert (holder["respawn"], holder["confidence"]) == ("yes", "confirmed")
        assert (holder["manager"]["kind"], holder["manager"]["name"]) == ("swarm", web.name)
        assert holder["manager"]["policy"] == "replicas: 2"
        assert holder["step"]["command_lines"] == [f"docker service scale {web.name}=0"]
        assert holder["step"]["undo_lines"] == [f"docker service scale {web.name}=2"]
        assert {f"container {task.name}", "stack shop", web.name} <= set(holder["chain"])
        assert [each.name for each in web.tasks] == [task.name]
        assert web.replicas == 2


def test_a_swarm_service_is_scaled_to_nothing_when_asked_to(node: Engine) -> None:
    port, other = free_port(), free_port()
    publish = "mode=host,published={},target=80"
    with (
        swarm.service(node, publish.format(port)) as web,
        swarm.service(node, publish.format(other)) as bystander,
    ):
        web.wait(1)
        bystander.wait(1)

        run = on_node(node, "resolve", "--stop-services", *FAST, str(port))

        assert run.status == 0, run.stdout + run.stderr
        assert run.port(f"{port}/tcp")["verdict"] == "freed"
        holder = holder_of(run, port)
        assert holder["outcome"]["actions"] == [f"docker service scale {web.name}=0"]
        assert web.replicas == 0
        assert stays(lambda: not web.tasks, 1.0)
        assert len(bystander.tasks) == 1
        (undo,) = holder["step"]["undo_lines"]
        in_node(node, undo.replace(" scale ", " scale --detach "))
        web.wait(1)


def test_a_global_service_leaves_this_node_out(node: Engine) -> None:
    port = free_port()
    publish = f"mode=host,published={port},target=80"
    slow = SERVE.replace('"exit 0"', '"sleep 3; exit 0"')  # after the command has returned
    with swarm.service(node, publish, "--mode=global", script=slow) as web:
        web.wait(1)

        run = on_node(node, "resolve", "--stop-services", *FAST, str(port))

        assert run.status == 0, run.stdout + run.stderr
        assert run.port(f"{port}/tcp")["verdict"] == "freed"
        assert stays(lambda: not web.tasks, 1.0)
        assert "node.id!=" in web.facts("{{json .Spec.TaskTemplate.Placement}}").replace(
            "\\u0021", "!"
        )
        (undo,) = holder_of(run, port)["step"]["undo_lines"]
        in_node(node, undo)
        web.wait(1)


def test_an_engine_that_is_not_the_default_one_is_named_in_the_command(node: Engine) -> None:
    """It is found by the port: by the `--host` of the dockerd that holds it."""
    port = free_port()
    with swarm.service(node, f"mode=host,published={port},target=80") as web:
        web.wait(1)

        run = on_node(node, "who", "--json", str(port), default=False)

        assert run.status == 0, run.stdout + run.stderr
        (command,) = holder_of(run, port)["step"]["command_lines"]
        assert command == f"docker -H {node.host} service scale {web.name}=0"
        node(*shlex.split(command)[3:-1], "--detach", f"{web.name}=0")
        web.wait(0)


@pytest.mark.parametrize("mode", ["replicated", "global"])
def test_a_port_of_the_routing_mesh(node: Engine, tmp_path: Path, mode: str) -> None:
    """The mesh needs IPVS, which not every kernel has: a process that is called dockerd stands in.

    What Swarm says of the service is real.
    """
    port = free_port()
    with (
        swarm.service(node, f"published={free_port()},target=8080"),
        swarm.service(node, f"published={port},target=80", f"--mode={mode}") as web,
        _dockerd(node, port, tmp_path) as popen,
    ):
        run = on_node(node, "resolve", *FAST, str(port))

        assert popen.poll() is None
        assert run.status == 3, run.stdout + run.stderr
        holder = holder_of(run, port)
        commands = [each.partition("   #")[0] for each in holder["step"]["command_lines"]]
        scale = f"docker service scale {web.name}"
        unpublish = f"docker service update --publish-rm 80 {web.name}"
        if mode == "global":
            assert commands == [unpublish]
            in_node(node, unpublish.replace(" update ", " update --detach "))
            assert web.facts("{{json .Spec.EndpointSpec.Ports}}") in {"null", "[]"}
            return
        assert holder["manager"]["name"] == web.name
        assert commands == [f"{scale}=0", unpublish]
        assert holder["step"]["undo_lines"] == [f"{scale}=1"]
        assert web.replicas == 1


def test_what_dockerd_itself_listens_for_is_no_service(node: Engine, tmp_path: Path) -> None:
    """Its own API, say. A stand-in, as above."""
    port, other = free_port(), free_port()
    with (
        swarm.service(node, f"published={other},target={port}"),
        swarm.service(node, f"mode=host,published={port},target=80", "--replicas=0"),
        _dockerd(node, port, tmp_path),
    ):
        run = on_node(node, "resolve", *FAST, str(port))

        assert run.status == 3, run.stdout + run.stderr
        assert [each["kind"] for each in run.port(f"{port}/tcp")["holders"]] == ["forwarder"]


def test_a_port_of_the_routing_mesh_on_a_worker(tmp_path: Path) -> None:
    """Two nodes of a swarm; the worker knows of no service. The listener is a stand-in."""
    port = free_port()
    with (
        engine_without_proxy() as manager,
        engine_without_proxy() as worker,
        swarm.worker(manager, worker) as address,
        _dockerd(worker, port, tmp_path),
    ):
        run = on_node(worker, "resolve", *FAST, str(port))

        assert run.status == 3, run.stdout + run.stderr
        holder = holder_of(run, port)
        assert (holder["confidence"], holder["manager"]) == ("suspected", None)
        [command] = holder["step"]["command_lines"]
        assert command.startswith("docker service ls   # on a manager")
        assert f"{address}:2377" in command
        assert "update --publish-rm" in command
        own = on_node(worker, "who", "--json", "7946").port("7946/tcp")["holders"]
        assert {each["kind"] for each in own} == {"forwarder"}  # the swarm's own


@contextlib.contextmanager
def _dockerd(node: Engine, port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A listener in the node's namespace that is called dockerd."""
    stand_in = folder / "dockerd"
    shutil.copy(shutil.which("busybox") or unavailable("busybox is missing"), stand_in)
    words = [*node.enter, "bash", "-c", 'exec -a busybox "$@"', "bash", str(stand_in)]
    with subprocess.Popen([*words, "nc", "-ll", "-p", str(port), "-e", "cat"]) as popen:
        try:
            wait_until(lambda: psutil.Process(popen.pid).name() == "dockerd", "the stand-in runs")
            wait_until(lambda: _held(node, port), "the stand-in listens")
            yield popen
        finally:
            popen.kill()


def _held(node: Engine, port: int) -> bool:
    run = on_node(node, "who", "--json", "--no-docker", str(port))
    return bool(run.port(f"{port}/tcp")["holders"])


# --- Kubernetes and Nomad, by their labels --------------------------------------------------------


def labelled(engine: Engine, port: int, labels: dict[str, str]) -> Container:
    """A container that publishes the port, with an orchestrator's labels."""
    options = ["--stop-timeout=1", *(f"--label={name}={value}" for name, value in labels.items())]
    container = engine.publish(f"{port}:80", options=options)
    container.wait_for(port)
    return container


def stand_in(folder: Path, name: str, answers: dict[str, object]) -> dict[str, str]:
    """A command that gives the recorded answer to each line of arguments; returns its environment.

    To any other line it says `not found`, and fails. It keeps a record of the lines it was given.
    """
    cases = "".join(
        f"  {shlex.quote(line)}) cat <<'END'\n{json.dumps(answer)}\nEND\n;;\n"
        for line, answer in answers.items()
    )
    record = shlex.quote(str(folder / "asked"))
    otherwise = "  *) echo not found >&2; exit 1;;"
    choose = f'case "$*" in\n{cases}{otherwise}\nesac\n'
    (folder / name).write_text(f'#!/bin/sh\necho "$*" >>{record}\n{choose}')
    (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


def owned(kind: str, name: str, **more: object) -> dict[str, object]:
    """`metadata.ownerReferences` of a Kubernetes object, as the API has it."""
    reference = {"apiVersion": "apps/v1", "kind": kind, "name": name, "controller": True}
    return {"metadata": {"ownerReferences": [reference], **more}}


CLUSTER: dict[str, object] = {
    f"-n shop get pod {POD} -o json": owned("ReplicaSet", "web-7d9f8c6b5d", uid=UID),
    "-n shop get replicaset web-7d9f8c6b5d -o json": owned("Deployment", "web"),
    "-n shop get deployment web -o json": {"metadata": {}, "spec": {"replicas": 3}},
    "-n shop scale deployment/web --replicas=0": {},
}


def test_a_pod_is_scaled_through_its_deployment(engine: Engine, tmp_path: Path) -> None:
    port = free_port()
    web = labelled(engine, port, KUBERNETES)

    run = ultra("resolve", *FAST, str(port), env=stand_in(tmp_path, "kubectl", CLUSTER))

    assert run.status == 3, run.stdout + run.stderr
    holder = holder_of(run, port)
    assert (holder["respawn"], holder["confidence"]) == ("yes", "confirmed")
    assert holder["manager"]["name"] == "deployment/web"
    assert holder["step"]["command_lines"] == ["kubectl -n shop scale deployment/web --replicas=0"]
    assert holder["step"]["undo_lines"] == ["kubectl -n shop scale deployment/web --replicas=3"]
    assert f"pod {POD}" in holder["chain"]
    assert web.serves(port)


def test_a_deployment_is_scaled_when_asked_to(engine: Engine, tmp_path: Path) -> None:
    """The recorded answers stop nothing, so the port stays held: and that is what is said."""
    port = free_port()
    web = labelled(engine, port, KUBERNETES)
    env = stand_in(tmp_path, "kubectl", CLUSTER)

    run = ultra("resolve", "--stop-services", *FAST, str(port), env=env)

    assert run.status == 1, run.stdout + run.stderr
    assert "-n shop scale deployment/web --replicas=0" in (tmp_path / "asked").read_text()
    assert run.port(f"{port}/tcp")["verdict"] == "held"
    assert web.serves(port)


@pytest.mark.parametrize("uid", [None, "another"])
def test_what_kubectl_does_not_confirm_is_never_run(
    engine: Engine, tmp_path: Path, uid: str | None
) -> None:
    """It may be configured for another cluster, with a deployment of the same name."""
    port = free_port()
    web = labelled(engine, port, KUBERNETES)
    answers = {
        **CLUSTER,
        f"-n shop get pod {POD} -o json": owned("ReplicaSet", "web-7d9f8c6b5d", uid=uid),
    }
    env = stand_in(tmp_path, "kubectl", answers if uid else {})

    run = ultra("resolve", "--stop-services", *FAST, str(port), env=env)

    assert run.status == 3, run.stdout + run.stderr
    holder = holder_of(run, port)
    assert holder["confidence"] == "suspected"
    assert holder["step"]["command_lines"] == ["kubectl -n shop scale deployment/web --replicas=0"]
    assert "scale" not in (tmp_path / "asked").read_text()
    assert web.serves(port)


def test_the_owner_of_a_pod_is_guessed_from_its_name(engine: Engine, tmp_path: Path) -> None:
    commands = {
        "db-0": "kubectl -n shop scale statefulset/db --replicas=0",
        "node-exporter-x2x4z": "kubectl -n shop delete daemonset/node-exporter",
        "lonely": "kubectl -n shop delete pod/lonely",
    }
    ports = {pod: free_port() for pod in commands}
    for pod, port in ports.items():
        labelled(engine, port, {**KUBERNETES, "io.kubernetes.pod.name": pod})
    env = stand_in(tmp_path, "kubectl", {})
    run = ultra("who", "--json", *map(str, ports.values()), env=env)
    for pod, port in ports.items():
        (said,) = holder_of(run, port)["step"]["command_lines"]
        assert said.startswith(commands[pod])


def test_a_nomad_allocation_is_stopped_through_its_job(engine: Engine, tmp_path: Path) -> None:
    port = free_port()
    web = labelled(engine, port, NOMAD)
    answer = {"ID": ALLOCATION, "JobID": "shop-web", "Namespace": "shop", "TaskGroup": "web"}
    env = stand_in(tmp_path, "nomad", {f"alloc status -json {ALLOCATION}": answer})

    run = ultra("resolve", *FAST, str(port), env=env)

    assert run.status == 3, run.stdout + run.stderr
    holder = holder_of(run, port)
    assert (holder["manager"]["kind"], holder["manager"]["name"]) == ("nomad", "shop-web")
    assert holder["step"]["command_lines"] == ["nomad job stop -namespace=shop shop-web"]
    assert holder["step"]["undo_lines"] == ["nomad job start -namespace=shop shop-web"]
    assert web.serves(port)


def test_a_nomad_allocation_whose_agent_is_silent(engine: Engine, tmp_path: Path) -> None:
    port = free_port()
    web = labelled(engine, port, {**NOMAD, "com.hashicorp.nomad.job_id": "shop-web"})
    env = stand_in(tmp_path, "nomad", {})

    run = ultra("resolve", "--stop-services", *FAST, str(port), env=env)

    assert run.status == 3, run.stdout + run.stderr
    holder = holder_of(run, port)
    assert holder["confidence"] == "suspected"
    assert holder["step"]["command_lines"] == ["nomad job stop shop-web"]
    assert "job stop" not in (tmp_path / "asked").read_text()
    assert web.serves(port)


def test_a_container_of_nobody_is_simply_stopped(engine: Engine) -> None:
    port = free_port()
    web = labelled(engine, port, {"io.kubernetes.note": "not a pod"})
    run = ultra("resolve", *FAST, str(port))
    assert run.status == 0, run.stdout + run.stderr
    assert stays_free(port, 0.5)
    assert web.state == "exited"
