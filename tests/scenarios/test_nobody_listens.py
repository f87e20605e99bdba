"""A port that is taken although nobody listens on it, and the reasons why."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.cli import COMMAND, ultra
from tests.lab.namespaces import network_namespace
from tests.lab.ports import free_port
from tests.lab.processes import alive, stays_free, unavailable, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.processes import Lab


def tool(name: str) -> str:
    path = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    return path or unavailable(f"{name} is missing")


def only(run: Any, port: int) -> Any:  # noqa: ANN401
    (holder,) = run.port(f"{port}/tcp")["holders"]
    return holder


@pytest.mark.native
def test_a_bound_socket_is_named_with_its_owner(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port, "--bound")

    run = ultra("who", str(port), "--json")

    assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (0, "held")
    holder = only(run, port)
    assert holder["state"] == "bound"
    assert holder["processes"][0]["pid"] == server.pid
    assert any("not listening" in fact for fact in holder["evidence"])


def test_a_client_on_the_port_is_ended_only_by_force(lab: Lab) -> None:
    port, service = free_port(), free_port()
    lab.start("answering", service)
    client = lab.start("client", service, "--source-port", port)

    run = ultra("resolve", str(port), "--json", "--stop-services")
    assert (run.status, only(run, port)["kind"]) == (3, "bystander")
    assert f"127.0.0.1:{service}" in run.port(f"{port}/tcp")["reason"]
    assert client.alive

    forced = ultra("resolve", str(port), "--json", "--force", "--settle", "0.3")
    assert not alive(client.pid)
    report = forced.port(f"{port}/tcp")
    assert (forced.status, report["verdict"]) == (1, "held"), "closed by the client: it lingers"
    assert "TIME_WAIT" in report["reason"]
    _, _, waits = report["reason"].partition("to wait for it: ultra-ports ")
    assert waits == f"wait {port} --until free --timeout 90", "it outlasts the 60 s"
    one_look = ultra(*waits.split()[:-1], "0")
    assert (one_look.status, one_look.stdout) == (1, ""), one_look.stderr


AS_A_MACHINE = """
import socket, sys, time
with open("/proc/self/comm", "w") as name:
    name.write("qemu-system-x86_64")
here, port, service = "127.0.0.1", *map(int, sys.argv[1:])
client = socket.create_connection((here, service), 10, (here, port))
time.sleep(1000)
"""


@pytest.mark.native
def test_what_ends_with_a_client_stands_against_force_too(lab: Lab) -> None:
    port, service = free_port(), free_port()
    lab.start("answering", service)
    guest = lab.command(sys.executable, "-c", AS_A_MACHINE, str(port), str(service))
    wait_until(
        lambda: ultra("who", str(port), "--json").port(f"{port}/tcp")["holders"], "it uses it"
    )

    run = ultra("resolve", str(port), "--json", "--force")

    assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (3, "refused"), run.stdout
    step = only(run, port)["step"]
    assert "a virtual machine" in step["why"]
    assert step["command_lines"] == [
        f"ultra-ports resolve --accept-loss --force {port}/tcp   # ends that, too"
    ]
    assert alive(guest.pid)
    ultra("resolve", str(port), "--force", "--accept-loss", "--settle", "0")
    assert not alive(guest.pid)


@contextlib.contextmanager
def rule(port: int, target: str) -> Iterator[list[str]]:
    """A DNAT rule without a container, in a chain of its own."""
    iptables, chain = tool("iptables"), f"LAB-{uuid.uuid4().hex[:8]}"

    def jump(option: str) -> list[str]:
        return [iptables, "-w", "-t", "nat", option, "PREROUTING", "-j"]

    words = ["-p", "tcp", "-m", "tcp", "--dport", str(port), "-j", "DNAT"]
    subprocess.run([iptables, "-w", "-t", "nat", "-N", chain], check=True)
    try:
        add = [iptables, "-w", "-t", "nat", "-A", chain, *words, "--to-destination", target]
        subprocess.run(add, check=True)
        subprocess.run([*jump("-A"), chain], check=True)
        yield ["-D", chain, *words, "--to-destination", target]
    finally:
        subprocess.run([*jump("-D"), chain], check=True)
        subprocess.run([iptables, "-w", "-t", "nat", "-F", chain], check=True)
        subprocess.run([iptables, "-w", "-t", "nat", "-X", chain], check=True)


@pytest.mark.root
def test_a_rule_that_captures_the_port_is_named_with_the_command_that_ends_it() -> None:
    port = free_port()
    with rule(port, "172.31.255.253:80"):
        run = ultra("resolve", str(port), "--json", "--no-docker")

        assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (3, "advised"), run.stdout
        holder = only(run, port)
        assert (holder["kind"], holder["state"]) == ("redirect", "redirected")
        assert "172.31.255.253:80" in " ".join(holder["chain"])
        (command,) = holder["step"]["command_lines"]
        subprocess.run(["/bin/sh", "-c", command], check=True)

        again = ultra("resolve", str(port), "--json", "--no-docker")
        assert (again.status, again.port(f"{port}/tcp")["verdict"]) == (0, "free")
        other = ultra("who", str(free_port()), "--json")
        assert other.status == 0


@pytest.mark.root
def test_another_network_namespace_is_no_conflict(lab: Lab) -> None:
    port = free_port()
    with network_namespace(lab) as inside:
        server = lab.start("answering", port, prefix=inside)

        run = ultra("who", str(port), "--json")
        resolved = ultra("resolve", str(port), "--json")

        assert run.port(f"{port}/tcp")["verdict"] == "free"
        notes = " ".join(run.port(f"{port}/tcp")["notes"])
        assert f" {server.pid} serves it in another network namespace" in notes
        assert (resolved.status, resolved.port(f"{port}/tcp")["verdict"]) == (0, "free")
        assert server.alive


@pytest.mark.parametrize("reuse", [False, True])
def test_time_wait(*, reuse: bool) -> None:
    """The server's side closed first: its port lingers, and what that means depends on its flag."""
    port = free_port()
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reuse))
        server.bind(("127.0.0.1", port))
        server.listen()
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            accepted.close()
            assert client.recv(1) == b""
    assert not stays_free(port, 0), "nothing lingers: the test shows nothing"

    run = ultra("resolve", str(port), "--json")

    report = run.port(f"{port}/tcp")
    with socket.socket() as successor:
        successor.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            successor.bind(("0.0.0.0", port))
            free = True
        except OSError:
            free = False
    assert (run.status == 0) is free
    said = " ".join([report["reason"], *report["notes"]])
    assert "TIME_WAIT" in said
    assert report["holders"] == []


def test_an_ephemeral_port_is_said_to_be_one() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    run = ultra("who", str(port), "--json")
    assert any("ephemeral range" in note for note in run.port(f"{port}/tcp")["notes"])
    assert any(note.startswith("to keep it: sysctl ") for note in run.port(f"{port}/tcp")["notes"])
    below = ultra("who", str(free_port()), "--json")
    assert not any(note.startswith("to keep") for note in below.json["ports"][0]["notes"])
    assert not any("ephemeral" in note for port in below.json["ports"] for note in port["notes"])


@pytest.mark.native
@pytest.mark.root
def test_a_socket_on_its_way_is_in_no_process() -> None:
    """Sent over a Unix socket, closed by who sent it, and not taken yet."""
    script = (
        "import array, socket, time\n"
        "near, far = socket.socketpair()\n"
        "server = socket.create_server(('0.0.0.0', 0))\n"
        "rights = array.array('i', [server.fileno()])\n"
        "near.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])\n"
        "port = server.getsockname()[1]\n"
        "server.close()\n"
        "print(port, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as sender:
        assert sender.stdout is not None
        port = int(sender.stdout.readline())
        run = ultra("resolve", "--json", str(port))
        sender.kill()

    assert run.status == 4, run.stdout
    reason = run.port(f"{port}/tcp")["reason"]
    assert "no process has it open: it waits in a Unix socket of " in reason
    assert f" {sender.pid}, not yet taken" in reason


@pytest.mark.native
@pytest.mark.root
def test_the_root_of_a_user_namespace_does_not_see_everybody(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port)

    run = ultra("resolve", "--json", str(port), prefix=("unshare", "--user", "--map-root-user"))

    assert run.status == 4, run.stdout + run.stderr
    assert "its owner is hidden from this user namespace" in run.port(f"{port}/tcp")["reason"]
    assert server.was_left_alone()


def test_what_keeps_ports_is_one_command_that_keeps_what_is_kept(lab: Lab) -> None:
    """Pasted as it is; the setting is the network namespace's own."""
    name = "net.ipv4.ip_local_reserved_ports"
    label = "  to keep those in the ephemeral range: "
    with network_namespace(lab) as inside:
        subprocess.run(
            [
                *inside,
                "sysctl",
                "-qw",
                f"{name}=41000-41002",
                "net.ipv4.ip_local_port_range=40000 50000",
            ],
            check=True,
        )
        words = [*inside, COMMAND, "who", "--no-docker", "40001", "40003", "39999"]
        told = subprocess.check_output(words, text=True)
        *_, last = told.splitlines()
        assert told.count(label) == 1
        assert last.startswith(label)
        subprocess.run([*inside, "sh", "-c", last.removeprefix(label)], check=True)
        kept = subprocess.check_output([*inside, "sysctl", "-n", name], text=True)
        assert kept.strip() == "40001,40003,41000-41002"
        assert "to keep" not in subprocess.check_output(words, text=True)
