"""Ports that containers hold, in a real engine."""

from __future__ import annotations

import contextlib
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.lab.cli import Run, holders, ultra
from tests.lab.engine import IDLE, SERVE, forwarders
from tests.lab.ports import free_port, free_range, is_free
from tests.lab.processes import alive, running, stays, stays_free, wait_until

if TYPE_CHECKING:
    from tests.lab.engine import Container, Engine
    from tests.lab.processes import Lab

pytestmark = [pytest.mark.engine, pytest.mark.slow]

FAST = ("--settle", "0.3")
# Its last words take 2 s, and end with a file that only a graceful stop can leave.
SLOW = SERVE.replace('"exit 0"', '"touch /stopping; sleep 2; touch /saved; exit 0"')


def resolve(*arguments: str, **env: str) -> Run:
    return ultra("resolve", *FAST, "--json", *arguments, env=env)


def assert_stopped(run: Run, label: str, container: Container, verdict: str = "freed") -> None:
    """Asserts that the report says this container, and nothing but it, was stopped there."""
    assert run.port(label)["verdict"] == verdict, run.stdout
    for holder in holders(run, label):
        assert holder["kind"] == "container"
        assert holder["container"]["name"] == container.name
        assert holder["step"]["kind"] == "stop-container"
        assert holder["outcome"]["result"] == "done"


def undo(run: Run, label: str) -> set[str]:
    """Every undo line of one port."""
    return {line for holder in holders(run, label) for line in holder["step"]["undo_lines"]}


def daemons(dockerd: int) -> set[int]:
    """An engine's daemon, and the containerd that it started, if it did."""
    found = {dockerd}
    for process in psutil.Process(dockerd).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # a helper for another test's container
            if process.name() == "containerd":
                found.add(process.pid)
    return found


def test_a_published_port_stops_its_container(engine: Engine) -> None:
    port, other = free_port(), free_port()
    web, bystander = engine.publish(f"{port}:80"), engine.publish(f"{other}:80")
    web.wait_for(port)
    bystander.wait_for(other)
    proxies = forwarders(port)
    assert proxies
    engine_pids = daemons(psutil.Process(min(proxies)).ppid())

    run = resolve(str(port))

    assert run.status == 0, run.stdout + run.stderr
    assert_stopped(run, f"{port}/tcp", web)
    assert undo(run, f"{port}/tcp") == {f"docker start {web.name}"}
    assert all(holder["container"]["id"] == web.id for holder in holders(run, f"{port}/tcp"))
    assert stays_free(port)
    assert web.state == "exited"
    assert not any(alive(proxy) for proxy in proxies)  # the engine ended them
    assert all(alive(pid) for pid in engine_pids)
    assert bystander.serves(other)
    engine("start", web.name)
    web.wait_for(port)


def test_the_text_has_the_chain_and_the_way_back(engine: Engine) -> None:
    port = free_port()
    web = engine.publish(f"{port}:80", options=["--restart=always"])
    web.wait_for(port)

    run = ultra("resolve", "-v", *FAST, str(port))

    assert run.status == 0, run.stdout + run.stderr
    assert f"container {web.name}" in run.stdout
    assert "→" in run.stdout
    assert f"docker start {web.name}" in run.stdout
    assert "always" in run.stdout
    assert stays_free(port)


def test_restart_always_stays_stopped_and_is_explained(engine: Engine) -> None:
    port = free_port()
    web = engine.publish(f"{port}:80", options=["--restart=always"])
    web.wait_for(port)

    run = resolve(str(port))

    assert run.status == 0, run.stdout + run.stderr
    assert_stopped(run, f"{port}/tcp", web)
    for holder in holders(run, f"{port}/tcp"):
        assert holder["container"]["restart_policy"] == "always"
        assert "always" in " → ".join(holder["chain"])
        words = [holder["step"]["why"], *holder["evidence"], *holder["outcome"]["actions"]]
        assert "always" in " ".join([*words, *run.port(f"{port}/tcp")["notes"]])
    assert stays_free(port)
    assert web.state == "exited"


def test_the_restart_policy_is_reported_as_the_engine_has_it(engine: Engine) -> None:
    policies = {free_port(): policy for policy in ("no", "unless-stopped", "on-failure:3")}
    made = {
        port: engine.publish(f"{port}:80", options=[f"--restart={policy}"])
        for port, policy in policies.items()
    }
    for port, web in made.items():
        web.wait_for(port)

    run = ultra("who", "--json", *map(str, policies))

    assert run.status == 0
    for port, policy in policies.items():
        assert run.port(f"{port}/tcp")["verdict"] == "held"
        for holder in holders(run, f"{port}/tcp"):
            assert holder["container"]["restart_policy"] == policy
            assert holder["outcome"] is None
        assert made[port].serves(port)


def test_published_udp_beside_published_tcp(engine: Engine) -> None:
    port = free_port()
    tcp = engine.publish(f"{port}:80")
    udp = engine.publish(f"{port}:80/udp")
    tcp.wait_for(port)
    assert not is_free(port, "udp")

    run = resolve(f"{port}/udp")

    assert run.status == 0, run.stdout + run.stderr
    assert_stopped(run, f"{port}/udp", udp)
    assert stays_free(port, transport="udp")
    assert tcp.serves(port)
    assert udp.state == "exited"


def test_published_tcp_beside_published_udp(engine: Engine) -> None:
    port = free_port()
    tcp = engine.publish(f"{port}:80")
    udp = engine.publish(f"{port}:80/udp")
    tcp.wait_for(port)

    run = resolve(str(port))

    assert run.status == 0, run.stdout + run.stderr
    assert_stopped(run, f"{port}/tcp", tcp)
    assert stays_free(port)
    assert udp.state == "running"
    assert not is_free(port, "udp")


def test_one_port_of_a_published_range(engine: Engine) -> None:
    first = free_range(3)
    web = engine.publish(f"{first}-{first + 2}:80-82")
    web.wait_for(first)

    run = resolve(str(first + 1))

    assert run.status == 0, run.stdout + run.stderr
    assert_stopped(run, f"{first + 1}/tcp", web)
    assert all(stays_free(port, 0.5) for port in range(first, first + 3))
    assert web.state == "exited"


def test_a_whole_published_range_is_one_stop(engine: Engine) -> None:
    first = free_range(3)
    web = engine.publish(f"{first}-{first + 2}:80-82")
    web.wait_for(first)

    run = resolve(f"{first}-{first + 2}")

    assert run.status == 0, run.stdout + run.stderr
    assert [port["label"] for port in run.json["ports"]] == [
        f"{port}/tcp" for port in range(first, first + 3)
    ]
    for port in range(first, first + 3):
        assert_stopped(run, f"{port}/tcp", web)
    assert stays_free(first)
    assert is_free(first + 1)
    assert is_free(first + 2)


def test_a_paused_container(engine: Engine) -> None:
    port = free_port()
    web = engine.publish(f"{port}:80")
    web.wait_for(port)
    engine("pause", web.name)

    run = resolve(str(port))

    assert run.status == 0, run.stdout + run.stderr
    assert_stopped(run, f"{port}/tcp", web)
    assert holders(run, f"{port}/tcp")[0]["container"]["state"] == "paused"
    assert stays_free(port)
    assert web.state == "exited"


def test_a_container_in_a_restart_loop(engine: Engine) -> None:
    port = free_port()
    loop = engine.publish(f"{port}:80", options=["--restart=always"], script="exit 1")
    # By then each pause is longer than a second: it is found between two runs.
    wait_until(
        lambda: int(loop.inspect("{{.RestartCount}}")) >= 4 and loop.state == "restarting",
        "the container is in a restart loop",
    )

    run = resolve(str(port))

    assert run.status == 0, run.stdout + run.stderr
    assert_stopped(run, f"{port}/tcp", loop)
    restarts = loop.inspect("{{.RestartCount}}")
    assert stays(lambda: is_free(port) and loop.state == "exited", 4.0)
    assert loop.inspect("{{.RestartCount}}") == restarts


def test_host_network(engine: Engine) -> None:
    port, other = free_port(), free_port()
    web = engine.start("--network=host", listen=port)
    bystander = engine.start("--network=host", listen=other)
    web.wait_for(port)
    bystander.wait_for(other)

    run = resolve(str(port))

    assert run.status == 0, run.stdout + run.stderr
    assert_stopped(run, f"{port}/tcp", web)
    assert undo(run, f"{port}/tcp") == {f"docker start {web.name}"}
    assert stays_free(port)
    assert web.state == "exited"
    assert bystander.serves(other)


def test_a_shared_network_namespace_stops_the_publisher_and_names_the_sharer(
    engine: Engine,
) -> None:
    port = free_port()
    publisher = engine.publish(f"{port}:80", script=IDLE)
    sharer = engine.start(f"--network=container:{publisher.name}")
    sharer.wait_for(port)

    run = resolve(str(port))

    assert run.status == 0, run.stdout + run.stderr
    assert_stopped(run, f"{port}/tcp", publisher)
    report = run.port(f"{port}/tcp")
    said = [loss["text"] for h in report["holders"] for loss in h["collateral"]]
    assert set(said) == {f"the network of {sharer.name}"}
    assert stays_free(port)
    assert publisher.state == "exited"
    assert sharer.state == "running"


def test_a_compose_service_beside_its_sibling(engine: Engine) -> None:
    """The labels are what compose leaves on a container; the engine knows nothing else of it."""
    port, other = free_port(), free_port()
    project = f"shop{port}"
    labels = [f"--label=com.docker.compose.project={project}"]
    web = engine.publish(f"{port}:80", options=[*labels, "--label=com.docker.compose.service=web"])
    api = engine.publish(f"{other}:80", options=[*labels, "--label=com.docker.compose.service=api"])
    web.wait_for(port)
    api.wait_for(other)

    run = resolve(str(port))

    assert run.status == 0, run.stdout + run.stderr
    assert_stopped(run, f"{port}/tcp", web)
    for holder in holders(run, f"{port}/tcp"):
        assert holder["container"]["compose_project"] == project
        assert holder["container"]["compose_service"] == "web"
        chain = " → ".join(holder["chain"])
        assert f"compose project {project}" in chain
        assert "service web" in chain
    assert stays_free(port)
    assert api.serves(other)


def test_a_process_beside_a_container_on_another_address(engine: Engine, lab: Lab) -> None:
    port = free_port()
    web = engine.publish(f"127.0.0.2:{port}:80")
    server = lab.start("answering", port, "--tcp", "127.0.0.1")
    web.wait_for(port, "127.0.0.2")

    run = resolve(f"127.0.0.1:{port}")

    assert run.status == 0, run.stdout + run.stderr
    (holder,) = holders(run, f"127.0.0.1:{port}/tcp")
    assert holder["kind"] == "local"
    assert [process["pid"] for process in holder["processes"]] == [server.pid]
    assert not server.alive
    assert web.serves(port, "127.0.0.2")


def test_a_container_beside_a_process_on_another_address(engine: Engine, lab: Lab) -> None:
    port = free_port()
    web = engine.publish(f"127.0.0.2:{port}:80")
    server = lab.start("answering", port, "--tcp", "127.0.0.1")
    web.wait_for(port, "127.0.0.2")

    run = resolve(f"127.0.0.2:{port}")

    assert run.status == 0, run.stdout + run.stderr
    assert_stopped(run, f"127.0.0.2:{port}/tcp", web)
    assert web.state == "exited"
    assert server.alive
    assert server.signals() == []


def test_a_container_that_removes_itself_has_no_way_back(engine: Engine) -> None:
    port = free_port()
    web = engine.publish(f"{port}:80", options=["--rm"])
    web.wait_for(port)

    run = resolve(str(port))

    assert run.status == 0, run.stdout + run.stderr
    assert_stopped(run, f"{port}/tcp", web)
    assert not any("docker start" in line for line in undo(run, f"{port}/tcp"))
    assert stays_free(port)
    wait_until(lambda: web.state == "absent", "the engine removed the container")


def test_dry_run_leaves_the_container_alone(engine: Engine) -> None:
    port = free_port()
    web = engine.publish(f"{port}:80")
    web.wait_for(port)
    proxies = forwarders(port)

    run = resolve("--dry-run", str(port))

    assert run.status == 0, run.stdout + run.stderr
    assert run.json["dry_run"] is True
    report = run.port(f"{port}/tcp")
    assert report["verdict"] == "would-free"
    for holder in report["holders"]:
        assert holder["kind"] == "container"
        assert holder["step"]["kind"] == "stop-container"
        assert any(web.name in command for command in holder["step"]["command_lines"])
        assert holder["outcome"] is None
    assert stays(lambda: web.serves(port), 1.0)
    assert forwarders(port) == proxies


def test_without_the_engine_a_forwarder_is_refused(engine: Engine) -> None:
    port = free_port()
    web = engine.publish(f"{port}:80")
    web.wait_for(port)
    proxies = forwarders(port)

    run = resolve("--no-docker", str(port))

    assert run.status == 3, run.stdout + run.stderr
    report = run.port(f"{port}/tcp")
    assert report["verdict"] == "refused"
    assert {holder["kind"] for holder in report["holders"]} == {"forwarder"}
    assert stays(lambda: web.serves(port))
    assert forwarders(port) == proxies


def test_a_graceful_stop_may_finish_its_work(engine: Engine) -> None:
    """And the userland proxy is left alone all the while: the engine ends it afterwards."""
    port = free_port()
    web = engine.publish(f"{port}:80", script=SLOW)
    web.wait_for(port)
    proxies = forwarders(port)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(resolve, str(port))
        wait_until(lambda: _has(web, "/stopping"), "the container began to stop")
        assert stays(lambda: forwarders(port) == proxies, 0.8)
        run = running.result()

    assert run.status == 0, run.stdout + run.stderr
    assert_stopped(run, f"{port}/tcp", web)
    assert web.inspect("{{.State.ExitCode}}") == "0"
    assert _has(web, "/saved")
    assert stays_free(port)


def test_ctrl_c_says_that_the_engine_goes_on(engine: Engine) -> None:
    port = free_port()
    web = engine.publish(f"{port}:80", script=SLOW)
    web.wait_for(port)

    with running("resolve", *FAST, str(port)) as popen:
        wait_until(lambda: _has(web, "/stopping"), "the container began to stop")
        popen.send_signal(signal.SIGINT)
        _, stderr = popen.communicate(timeout=20)

    assert popen.returncode == 130
    said = f"interrupted: the engine was already asked to stop {web.name}, and will (within "
    assert said in stderr
    assert stderr.endswith(f" s). To have it back then: docker start {web.name}\n")
    wait_until(lambda: web.inspect("{{.State.Running}}") == "false", "the engine has stopped it")


def test_a_container_that_had_to_be_killed_is_said_to_be(engine: Engine) -> None:
    port = free_port()
    deaf = SERVE.replace('"exit 0"', '""').replace("& wait", "& while :; do wait; done")
    web = engine.publish(f"{port}:80", options=["--stop-timeout=1"], script=deaf)
    web.wait_for(port)

    run = resolve(str(port))

    assert run.status == 0, run.stdout + run.stderr
    assert web.inspect("{{.State.ExitCode}}") == "137"
    reason = run.port(f"{port}/tcp")["reason"]
    assert re.fullmatch(r"killed after \d+\.\d s: it did not stop within 1 s", reason)


def test_a_container_that_ends_with_the_status_of_a_killed_one_was_stopped(engine: Engine) -> None:
    port = free_port()
    web = engine.publish(f"{port}:80", script=SERVE.replace("exit 0", "exit 137"))
    web.wait_for(port)

    run = resolve(str(port))

    assert web.inspect("{{.State.ExitCode}}") == "137"
    assert re.fullmatch(r"stopped after \d\.\d s", run.port(f"{port}/tcp")["reason"])


def test_a_container_that_may_take_as_long_as_it_likes(engine: Engine) -> None:
    """`--stop-timeout -1`: never killed, so the request has no deadline of ours either."""
    port = free_port()
    web = engine.publish(f"{port}:80", options=["--stop-timeout=-1"], script=SLOW)
    web.wait_for(port)

    run = resolve(str(port), "--docker-timeout", "1")

    assert run.status == 0, run.stdout + run.stderr
    assert web.inspect("{{.State.ExitCode}}") == "0"
    assert _has(web, "/saved")


def _has(container: Container, path: str) -> bool:
    """True where the container made this file."""
    return f"A {path}" in container.engine("diff", container.name).splitlines()


def test_an_engine_that_holds_the_port_itself(engine_without_proxy: Engine) -> None:
    engine = engine_without_proxy
    port = free_port()
    web = engine.publish(f"{port}:80")
    engine_pids = daemons(engine.pid)

    run = ultra("resolve", *FAST, "--json", str(port), env=engine.env, prefix=engine.enter)

    assert run.status == 0, run.stdout + run.stderr
    assert_stopped(run, f"{port}/tcp", web)
    assert web.state == "exited"
    assert daemons(engine.pid) >= engine_pids
    assert engine.answers()
    again = ultra("who", "--json", str(port), env=engine.env, prefix=engine.enter)
    assert again.port(f"{port}/tcp")["verdict"] == "free"


def test_without_its_engine_an_engine_that_holds_the_port_is_refused(
    engine_without_proxy: Engine,
) -> None:
    engine = engine_without_proxy
    port = free_port()
    web = engine.publish(f"{port}:80")
    engine_pids = daemons(engine.pid)

    run = ultra("resolve", *FAST, "--json", "--no-docker", str(port), prefix=engine.enter)

    assert run.status == 3, run.stdout + run.stderr
    assert run.port(f"{port}/tcp")["verdict"] == "refused"
    assert web.state == "running"
    assert daemons(engine.pid) >= engine_pids
