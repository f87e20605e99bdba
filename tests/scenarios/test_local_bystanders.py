"""Whom a resolve must not touch: clients, neighbours, ancestors, other users; and what lingers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from resolver.host.processes import children
from resolver.model import Pid
from tests.lab import known
from tests.lab.cli import COMMAND, reported, ultra
from tests.lab.ports import free_port, is_free, listens
from tests.lab.processes import answered_by, stays, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.processes import Lab, Server

QUICK = ("--json", "--grace", "1", "--settle", "0.3")


def saw_the_end(client: Server) -> bool:
    return any(event["event"] == "eof" for event in client.events())


def test_a_connected_client_survives(lab: Lab, gather: dict[str, str]) -> None:
    port = free_port()
    server = lab.start("answering", port)
    client = lab.start("client", port)
    assert client.facts["server"] == server.pid

    run = ultra("resolve", str(port), *QUICK, env=gather)

    report = reported(run, port, 0, "freed")
    [holder] = report["holders"]
    assert (holder["kind"], holder["state"]) == ("local", "listening")
    assert not server.alive
    wait_until(lambda: saw_the_end(client), "the client saw its connection end")
    assert answered_by(port) is None
    assert client.was_left_alone()


def test_a_client_of_the_same_port_elsewhere_is_not_a_holder(
    lab: Lab, gather: dict[str, str]
) -> None:
    port = free_port()
    server = lab.start("answering", port, "--tcp", "127.0.0.2")
    client = lab.start("client", port, "--address", "127.0.0.2")

    run = ultra("resolve", f"127.0.0.1:{port}", *QUICK, env=gather)

    report = run.port(f"127.0.0.1:{port}/tcp")
    assert (run.status, report["verdict"], report["holders"]) == (0, "free", [])
    assert client.alive
    assert not saw_the_end(client)
    assert answered_by(port, "127.0.0.2") == server.pid
    assert client.signals() == server.signals() == []


def test_an_outgoing_connection_from_the_port_is_a_bystander(
    lab: Lab, gather: dict[str, str]
) -> None:
    port, service = free_port(), free_port()
    server = lab.start("answering", service)
    client = lab.start("client", service, "--source-port", port)

    run = ultra("resolve", str(port), *QUICK, env=gather)

    report = run.port(f"{port}/tcp")
    assert run.status == 3
    assert report["verdict"] in {"advised", "refused"}
    [holder] = report["holders"]
    assert (holder["kind"], holder["state"]) == ("bystander", "connected")
    assert [process["pid"] for process in holder["processes"]] == [client.pid]
    assert holder["step"]["kind"] == "advise"
    assert not saw_the_end(client)
    assert client.was_left_alone()
    assert server.was_left_alone()


def test_a_server_beside_a_bystander_is_still_ended(lab: Lab) -> None:
    port, service = free_port(), free_port()
    lab.start("answering", service)
    client = lab.start("client", service, "--source-port", port)
    server = lab.start("answering", port, "--tcp", "127.0.0.2")

    run = ultra("resolve", str(port), *QUICK)

    kinds = {holder["kind"] for holder in run.port(f"{port}/tcp")["holders"]}
    assert (run.status, kinds) == (3, {"bystander", "local"})
    assert not server.alive
    assert client.alive
    assert client.signals() == []


def test_its_own_ancestor(lab: Lab) -> None:
    port = free_port()
    server = lab.start("ancestor", port, COMMAND, "resolve", port, *QUICK)

    assert server.facts["status"] == 3, server.facts["stderr"]
    [report] = json.loads(server.facts["stdout"])["ports"]
    assert report["verdict"] == "refused"
    [holder] = report["holders"]
    assert (holder["kind"], holder["step"]["kind"]) == ("ancestor", "advise")
    assert stays(lambda: answered_by(port) == server.pid)


def test_not_even_by_force(lab: Lab) -> None:
    port = free_port()
    server = lab.start("ancestor", port, COMMAND, "resolve", port, "--force", *QUICK)

    assert server.facts["status"] == 3, server.facts["stderr"]
    assert stays(lambda: answered_by(port) == server.pid)


def test_the_worst_status_of_several_ports(lab: Lab) -> None:
    freed, taken, service = free_port(), free_port(), free_port()
    server = lab.start("answering", freed)
    other = lab.start("answering", service)
    client = lab.start("client", service, "--source-port", taken)

    run = ultra("resolve", str(freed), str(taken), str(free_port()), *QUICK)

    assert (run.status, run.json["exit_status"]) == (3, 3)
    assert run.port(f"{freed}/tcp")["verdict"] == "freed"
    assert not server.alive
    assert client.alive
    assert lab.frees(freed, client, other)


def test_held_is_worse_than_advised(lab: Lab) -> None:
    held, taken, service = free_port(), free_port(), free_port()
    lab.start("answering", held)
    lab.start("answering", service)
    client = lab.start("client", service, "--source-port", taken)

    ports = f"{taken},{held}"
    dry = ultra("resolve", ports, "--json", "--dry-run")
    run = ultra("resolve", ports, "--json", "--interactive", stdin="n\n")

    assert (dry.status, dry.port(f"{held}/tcp")["verdict"]) == (3, "would-free")
    assert (run.status, run.json["exit_status"]) == (1, 1)
    assert run.port(f"{held}/tcp")["verdict"] == "held"
    assert run.port(f"{taken}/tcp")["verdict"] in {"advised", "refused"}
    assert client.alive


@pytest.mark.root
def test_another_users_process(
    lab: Lab, as_nobody: tuple[str, ...], gather: dict[str, str]
) -> None:
    port = free_port()
    server = lab.start("answering", port)

    run = ultra("resolve", str(port), *QUICK, prefix=as_nobody, env=gather)
    text = ultra("resolve", str(port), prefix=as_nobody, env=gather)

    assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (4, "hidden")
    assert {holder["kind"] for holder in run.port(f"{port}/tcp")["holders"]} <= {"hidden", "local"}
    assert text.status == 4
    assert any("sudo " in line and str(port) in line for line in text.stdout.splitlines())
    assert answered_by(port) == server.pid
    assert server.was_left_alone()


@pytest.mark.root
def test_who_holds_it_is_hidden_from_another_user(lab: Lab, as_nobody: tuple[str, ...]) -> None:
    port = free_port()
    lab.start("answering", port)

    run = ultra("who", str(port), "--json", prefix=as_nobody)

    assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (4, "hidden")


@pytest.mark.root
def test_workers_of_another_users_master(
    lab: Lab, as_nobody: tuple[str, ...], gather: dict[str, str], tmp_path: Path
) -> None:
    """They are nobody's to signal, and what root started would only make new ones."""
    port = free_port()
    served = f"events {{}} http {{ access_log off; server {{ listen 127.0.0.1:{port}; }} }}"
    top = f"daemon off; user nobody nogroup; error_log /dev/null; pid {tmp_path}/pid;"
    (tmp_path / "nginx.conf").write_text(f"{top} {served}")
    master = lab.command(known.real("nginx"), "-c", str(tmp_path / "nginx.conf"))
    pid = Pid(master.pid)
    try:
        wait_until(lambda: listens(port) and bool(children(pid)), "it serves")
        workers = children(pid)

        run = ultra("resolve", str(port), *QUICK, prefix=as_nobody, env=gather)

        assert children(pid) == workers
    finally:
        master.terminate()  # by SIGKILL, its workers would be left behind
        master.wait(10)
    report = run.port(f"{port}/tcp")
    assert (run.status, report["verdict"]) == (4, "hidden")
    (holder,) = report["holders"]
    assert f"workers of nginx {master.pid}, which belongs to root" in holder["step"]["why"]


@pytest.mark.root
def test_nobody_frees_its_own_process(
    lab: Lab, as_nobody: tuple[str, ...], gather: dict[str, str]
) -> None:
    port = free_port()
    server = lab.start("answering", port, prefix=as_nobody, log=False)

    run = ultra("resolve", str(port), *QUICK, prefix=as_nobody, env=gather)

    report = reported(run, port, 0, "freed")
    assert report["holders"][0]["processes"][0]["user"] == "nobody"
    assert not server.alive
    assert lab.frees(port)


@pytest.mark.root
def test_root_frees_what_nobody_runs(lab: Lab, as_nobody: tuple[str, ...]) -> None:
    port = free_port()
    server = lab.start("answering", port, prefix=as_nobody, log=False)

    run = ultra("resolve", str(port), *QUICK)

    assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (0, "freed")
    assert not server.alive
    assert lab.frees(port)


@pytest.mark.parametrize("client_keeps", [False, True], ids=["time-wait", "fin-wait-2"])
def test_a_closed_connection_lingers_and_a_server_can_bind(lab: Lab, *, client_keeps: bool) -> None:
    port = free_port()
    server = lab.start("answering", port)
    client = lab.start("client", port, *(["--keep"] if client_keeps else []))

    run = ultra("resolve", str(port), *QUICK)

    assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (0, "freed")
    assert not server.alive
    assert client.alive
    assert not is_free(port), "nothing lingers: this test proves nothing"
    successor = lab.start("answering", port)
    assert answered_by(port) == successor.pid
    assert successor.was_left_alone()


def test_a_port_where_only_a_closed_connection_lingers(lab: Lab, gather: dict[str, str]) -> None:
    port = free_port()
    server = lab.start("answering", port)
    client = lab.start("client", port)
    server.popen.kill()
    wait_until(lambda: saw_the_end(client), "the client saw its connection end")
    assert not is_free(port), "nothing lingers: this test proves nothing"

    run = ultra("resolve", str(port), *QUICK, env=gather)

    report: Any = run.port(f"{port}/tcp")
    assert (run.status, report["verdict"]) == (0, "free")
    assert [holder["kind"] for holder in report["holders"]] == []
    assert client.alive
