"""`who` asks no engine where the sockets and processes of this machine explain a port."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import Run, ultra
from tests.lab.engine import counting_socket
from tests.lab.namespaces import network_namespace
from tests.lab.ports import free_port
from tests.lab.processes import unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.engine import Engine
    from tests.lab.processes import Lab

pytestmark = pytest.mark.root  # another user may not know whose ports an engine publishes
SPARED = "was not queried (not needed): every owner is known"


class Silent:
    """An engine that never answers, and what it was asked."""

    def __init__(self, path: Path, asked: list[str]) -> None:
        self.path = path
        self.asked = asked

    def who(self, *arguments: str, prefix: tuple[str, ...] = ()) -> Run:
        """`ultra-ports who`, with this engine."""
        env = {"DOCKER_HOST": f"unix://{self.path}"}
        return ultra("who", "--docker-timeout", "0.3", *arguments, env=env, prefix=prefix)

    def was_asked(self, run: Run) -> bool:
        """Whether the report says so, which has to be true."""
        (said,) = {
            each["asked"]
            for each in run.json["engines"]
            if each["endpoint"].endswith(str(self.path))
        }
        assert said is bool(self.asked)
        return bool(self.asked)


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Silent]:
    asked: list[str] = []
    with counting_socket(tmp_path, asked) as path:
        yield Silent(path, asked)


def test_a_local_holder_explains_the_port(lab: Lab, silent: Silent) -> None:
    port = free_port()
    server = lab.start("answering", port)
    run = silent.who("--json", str(port))
    assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (0, "held"), run.stdout
    (holder,) = run.port(f"{port}/tcp")["holders"]
    assert (holder["kind"], holder["processes"][0]["pid"]) == ("local", server.pid)
    assert run.json["notes"] == []
    assert not silent.was_asked(run)
    assert SPARED in silent.who("-v", str(port)).stderr
    assert SPARED not in silent.who(str(port)).stderr
    assert not silent.asked


def test_complete_asks_all_the_same(lab: Lab, silent: Silent) -> None:
    port = free_port()
    lab.start("answering", port)
    run = silent.who("--json", "--complete", str(port))
    assert silent.was_asked(run)
    assert "partial answer" in " ".join(run.json["notes"])


def test_a_free_port_among_them_may_be_published(lab: Lab, silent: Silent) -> None:
    port = free_port()
    lab.start("answering", port)
    assert silent.was_asked(silent.who("--json", str(port), str(free_port())))


def test_a_connection_does_not_serve(lab: Lab, silent: Silent) -> None:
    port, service = free_port(), free_port()
    lab.start("answering", service)
    lab.start("client", service, "--source-port", port)
    assert silent.was_asked(silent.who("--json", str(port)))


def test_a_forwarder_may_be_anybodys(lab: Lab, silent: Silent, tmp_path: Path) -> None:
    port = free_port()
    proxy = tmp_path / "docker-proxy"
    proxy.symlink_to("/bin/sh")
    child = (str(proxy), "-c", '"$@" & wait', "docker-proxy")
    lab.start("answering", port, prefix=child)
    assert silent.was_asked(silent.who("--json", str(port)))


def test_the_ports_of_an_engine_in_another_namespace_are_unknown(lab: Lab, silent: Silent) -> None:
    port = free_port()
    with network_namespace(lab) as inside:
        lab.start("answering", port, prefix=inside)
        assert silent.was_asked(silent.who("--json", str(port), prefix=inside))


def test_a_rule_may_lead_to_a_container(lab: Lab, silent: Silent) -> None:
    iptables = shutil.which("iptables", path="/usr/sbin:/sbin") or unavailable("no iptables")
    port = free_port()
    lab.start("answering", port)
    nat = (iptables, "-w", "-t", "nat")
    rule = ("PREROUTING", "-p", "tcp", "--dport", str(port), "-j", "DNAT")
    subprocess.run([*nat, "-A", *rule, "--to-destination", "172.31.255.9"], check=True)
    try:
        assert silent.was_asked(silent.who("--json", str(port)))
    finally:
        subprocess.run([*nat, "-D", *rule, "--to-destination", "172.31.255.9"], check=True)


@pytest.mark.engine
def test_a_process_in_a_container_is_its_engines(engine: Engine) -> None:
    port = free_port()
    web = engine.start("--network=host", listen=port)
    web.wait_for(port)
    run = ultra("who", "--json", str(port), env={"DOCKER_HOST": f"unix://{engine.socket}"})
    (holder,) = run.port(f"{port}/tcp")["holders"]
    assert holder["container"]["name"] == web.name, run.stdout
    assert {each["asked"] for each in run.json["engines"]} == {True}


def test_resolve_waits_for_an_engine_only_as_long_as_it_could_add_something(
    lab: Lab, silent: Silent
) -> None:
    """An engine that could explain the port gets its whole time; one that could not, a part."""
    port = free_port()
    server = lab.start("answering", port)
    env = {"DOCKER_HOST": f"unix://{silent.path}"}
    words = ("resolve", "--json", "--settle", "0.3", "--docker-timeout", "8", str(port))

    run = ultra(*words, env=env)

    assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (0, "freed"), run.stdout
    assert not server.alive
    assert silent.was_asked(run)
    assert f"{silent.path} did not answer in 1 s" in " ".join(run.json["notes"])
