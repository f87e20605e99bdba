"""Local servers of every shape, found by both ways of gathering and really ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.cli import reported, ultra
from tests.lab.ports import free_port, free_range
from tests.lab.processes import answered_by

if TYPE_CHECKING:
    from tests.lab.processes import Lab

QUICK = ("--json", "--grace", "1", "--settle", "0.3")


def pids(holder: dict[str, Any]) -> list[int]:
    return [process["pid"] for process in holder["processes"]]


def test_ipv4(lab: Lab, gather: dict[str, str]) -> None:
    port = free_port()
    server = lab.start("answering", port, "--tcp", "127.0.0.1")
    bystander = lab.start("answering", free_port())

    run = ultra("resolve", str(port), *QUICK, env=gather)

    report = reported(run, port, 0, "freed")
    [holder] = report["holders"]
    assert (holder["kind"], holder["state"]) == ("local", "listening")
    assert holder["binding"] == {"transport": "tcp", "address": "127.0.0.1", "port": port}
    assert pids(holder) == [server.pid]
    assert (holder["step"]["kind"], holder["outcome"]["result"]) == ("kill", "done")
    assert not server.alive
    assert server.signals() == ["SIGTERM"]
    assert lab.frees(port, bystander)
    assert bystander.alive


def test_ipv6_only(lab: Lab, gather: dict[str, str]) -> None:
    port = free_port()
    server = lab.start("answering", port, "--tcp", "::1")

    run = ultra("resolve", str(port), *QUICK, env=gather)

    report = reported(run, port, 0, "freed")
    [holder] = report["holders"]
    assert holder["kind"] == "local"
    assert holder["binding"]["address"] == "::1"
    assert not server.alive
    assert lab.frees(port)


def test_the_ipv6_server_of_an_ipv6_request(lab: Lab, gather: dict[str, str]) -> None:
    port = free_port()
    ipv4 = lab.start("answering", port, "--tcp", "127.0.0.1")
    ipv6 = lab.start("answering", port, "--tcp", "::1")

    run = ultra("resolve", f"[::1]:{port}", *QUICK, env=gather)

    assert (run.status, run.port(f"[::1]:{port}/tcp")["verdict"]) == (0, "freed")
    assert not ipv6.alive
    assert answered_by(port, "127.0.0.1") == ipv4.pid
    assert answered_by(port, "::1") is None
    assert ipv4.was_left_alone()


def test_dual_stack(lab: Lab, gather: dict[str, str]) -> None:
    port = free_port()
    server = lab.start("answering", port, "--tcp", "::", "--dual")
    assert answered_by(port, "127.0.0.1") == answered_by(port, "::1") == server.pid

    run = ultra("resolve", str(port), *QUICK, env=gather)

    report = reported(run, port, 0, "freed")
    [holder] = report["holders"]
    assert holder["binding"]["address"] == "::"
    assert not server.alive
    assert lab.frees(port)


def test_an_ipv4_request_meets_a_dual_stack_server(lab: Lab, gather: dict[str, str]) -> None:
    port = free_port()
    server = lab.start("answering", port, "--tcp", "::", "--dual")

    run = ultra("resolve", f"127.0.0.1:{port}", *QUICK, env=gather)

    assert (run.status, run.port(f"127.0.0.1:{port}/tcp")["verdict"]) == (0, "freed")
    assert not server.alive
    assert lab.frees(port)


def test_an_ipv4_request_leaves_the_server_of_every_ipv6_address(lab: Lab) -> None:
    port = free_port()
    ipv4 = lab.start("answering", port, "--tcp", "0.0.0.0")
    ipv6 = lab.start("answering", port, "--tcp", "::")

    run = ultra("resolve", f"127.0.0.1:{port}", *QUICK)

    assert (run.status, run.port(f"127.0.0.1:{port}/tcp")["verdict"]) == (0, "freed")
    assert not ipv4.alive
    assert answered_by(port, "::1") == ipv6.pid
    assert ipv6.was_left_alone()


def test_two_servers_on_every_address(lab: Lab, gather: dict[str, str]) -> None:
    port = free_port()
    ipv4 = lab.start("answering", port, "--tcp", "0.0.0.0")
    ipv6 = lab.start("answering", port, "--tcp", "::")

    run = ultra("resolve", str(port), *QUICK, env=gather)

    report = reported(run, port, 0, "freed")
    held = {holder["binding"]["address"]: pids(holder) for holder in report["holders"]}
    assert held == {"0.0.0.0": [ipv4.pid], "::": [ipv6.pid]}
    assert not ipv4.alive
    assert not ipv6.alive
    assert lab.frees(port)


def test_the_tcp_server_beside_udp(lab: Lab, gather: dict[str, str]) -> None:
    port = free_port()
    tcp = lab.start("answering", port, "--tcp", "127.0.0.1")
    udp = lab.start("answering", port, "--udp", "127.0.0.1")

    run = ultra("resolve", str(port), *QUICK, env=gather)

    assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (0, "freed")
    assert not tcp.alive
    assert lab.frees(port, udp)
    assert answered_by(port, transport="udp") == udp.pid
    assert udp.was_left_alone()


def test_the_udp_server_beside_tcp(lab: Lab, gather: dict[str, str]) -> None:
    port = free_port()
    tcp = lab.start("answering", port, "--tcp", "127.0.0.1")
    udp = lab.start("answering", port, "--udp", "127.0.0.1")

    run = ultra("resolve", f"{port}/udp", *QUICK, env=gather)

    report = run.port(f"{port}/udp")
    assert (run.status, report["verdict"]) == (0, "freed")
    [holder] = report["holders"]
    assert (holder["kind"], holder["state"]) == ("local", "unconnected")
    assert not udp.alive
    assert lab.frees(port, tcp, transport="udp")
    assert answered_by(port) == tcp.pid
    assert tcp.was_left_alone()


def test_a_prefork_master_stops_its_workers_itself(lab: Lab, gather: dict[str, str]) -> None:
    port = free_port()
    master = lab.start("prefork", port, "--workers", "3")
    workers = master.facts["workers"]

    run = ultra("resolve", str(port), "--json", "--settle", "0.3", env=gather)

    report = reported(run, port, 0, "freed")
    [holder] = report["holders"]
    assert pids(holder)[0] == master.pid
    assert sorted(pids(holder)[1:]) == workers
    assert not master.alive
    assert lab.processes() == []
    [got, *from_master] = master.events()
    assert (got["role"], got["event"]) == ("master", "SIGTERM")
    assert sorted(event["pid"] for event in from_master) == workers
    assert {(event["event"], event["sender"]) for event in from_master} == {("SIGTERM", master.pid)}
    assert lab.frees(port)


def test_a_reuseport_pair(lab: Lab, gather: dict[str, str]) -> None:
    port = free_port()
    pair = [lab.start("answering", port, "--reuseport") for _ in range(2)]

    run = ultra("resolve", str(port), *QUICK, env=gather)

    report = reported(run, port, 0, "freed")
    first, second = report["holders"]
    assert first["binding"] == second["binding"]
    assert sorted(pids(first) + pids(second)) == sorted(server.pid for server in pair)
    assert not any(server.alive for server in pair)
    assert lab.frees(port)


def test_two_addresses_with_two_owners(lab: Lab, gather: dict[str, str]) -> None:
    port = free_port()
    wanted = lab.start("answering", port, "--tcp", "127.0.0.1")
    other = lab.start("answering", port, "--tcp", "127.0.0.2")

    run = ultra("resolve", f"127.0.0.1:{port}", *QUICK, env=gather)

    report = run.port(f"127.0.0.1:{port}/tcp")
    assert (run.status, report["verdict"]) == (0, "freed")
    assert report["request"] == {"port": port, "transport": "tcp", "address": "127.0.0.1"}
    [holder] = report["holders"]
    assert pids(holder) == [wanted.pid]
    assert not wanted.alive
    assert answered_by(port, "127.0.0.2") == other.pid
    assert answered_by(port, "127.0.0.1") is None
    assert other.was_left_alone()


def test_one_server_on_two_addresses_is_ended_once(lab: Lab, gather: dict[str, str]) -> None:
    port = free_port()
    server = lab.start("answering", port, "--tcp", "127.0.0.1", "--tcp", "127.0.0.2")

    run = ultra("resolve", str(port), *QUICK, env=gather)

    report = reported(run, port, 0, "freed")
    held = {holder["binding"]["address"]: pids(holder) for holder in report["holders"]}
    assert held == {"127.0.0.1": [server.pid], "127.0.0.2": [server.pid]}
    assert server.signals() == ["SIGTERM"]
    assert lab.frees(port)


def test_a_free_port(gather: dict[str, str]) -> None:
    port = free_port()

    run = ultra("resolve", str(port), *QUICK, env=gather)

    report = run.port(f"{port}/tcp")
    assert (run.status, report["verdict"], report["holders"]) == (0, "free", [])


def test_a_range_with_two_of_five_held(lab: Lab, gather: dict[str, str]) -> None:
    first = free_range(5)
    held = [lab.start("answering", first + offset) for offset in (1, 3)]

    run = ultra("resolve", f"{first}-{first + 4}", *QUICK, env=gather)

    assert run.status == 0
    verdicts = {port["label"]: port["verdict"] for port in run.json["ports"]}
    expected = ("free", "freed", "free", "freed", "free")
    assert verdicts == {f"{first + n}/tcp": verdict for n, verdict in enumerate(expected)}
    assert not any(server.alive for server in held)
    assert all(lab.frees(first + offset) for offset in range(5))


@pytest.mark.native
def test_a_bound_socket_that_does_not_listen(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port, "--bound")

    run = ultra("resolve", str(port), *QUICK)

    report = reported(run, port, 0, "freed")
    [holder] = report["holders"]
    assert (holder["kind"], holder["state"], pids(holder)) == ("local", "bound", [server.pid])
    assert lab.frees(port)


def test_a_bound_socket_that_the_portable_path_cannot_see(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port, "--bound")

    run = ultra("resolve", str(port), *QUICK, env={"ULTRA_PORTS_GATHER": "psutil"})

    report = run.port(f"{port}/tcp")
    assert run.status != 0, "the port cannot be bound, whatever the socket table says"
    assert report["verdict"] in {"hidden", "undecided", "held"}
    assert server.alive
    assert server.signals() == []
