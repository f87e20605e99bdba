"""A port that stays held: the nearest free one is named, by the allocator, and only then."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import pytest

from resolver.reservations.candidates import REFUSED_BY_BROWSERS
from tests.lab.cli import ultra
from tests.lab.compose import published, stack
from tests.lab.engine import broken_socket
from tests.lab.ports import free_range, is_free, is_served
from tests.lab.processes import ROOT, wait_until
from tests.lab.supervisord import program, serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.cli import Run
    from tests.lab.engine import Engine
    from tests.lab.processes import Lab
    from tests.lab.supervisord import Supervisor

QUICK = ("--no-docker", "--settle", "0.1", "--grace", "1")
KEPT = ("-i", *QUICK)  # and an empty stdin: nothing is ended


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of the test's own."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ports() -> int:
    """The first of twenty ports that were free just now."""
    return free_range(20)


def named(run: Run) -> list[int]:
    """The ports that are said to be free, in the order of the lines."""
    return [int(each) for each in re.findall(r"^  (\d+) is free: ", run.stdout, re.MULTILINE)]


def in_json(run: Run) -> list[int | None]:
    return [each["nearest_free"] for each in run.json["ports"]]


@pytest.mark.supervisord
def test_what_is_advised_names_one(
    supervisor: Supervisor, ports: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    supervisor.start(program("web", serving(ports), "true"))
    wait_until(lambda: is_served(ports), "it listens")

    run = ultra("resolve", *QUICK, str(ports))

    assert (run.status, named(run)) == (3, [ports + 1]), run.stdout
    line = f"  {ports + 1} is free: `ultra-ports run --port web:{ports + 1} -- COMMAND`"
    assert f"{line}, or `assign`" in run.stdout.splitlines()
    assert run.stdout.splitlines()[-1].startswith("  to free it: ")
    assert len(run.stdout.splitlines()) <= 6
    assert in_json(ultra("resolve", *QUICK, "--json", str(ports))) == [ports + 1]
    assert is_free(ports + 1)
    dry = ultra("resolve", "-n", "--no-docker", str(ports))
    assert (dry.status, named(dry)) == (3, [ports + 1])


def test_what_the_service_was_assigned_here_is_named_where_it_is_free(
    lab: Lab, ports: int, project: Path
) -> None:
    (project / "ultra-ports.toml").write_text(f"[services]\napi = {ports}\n")
    assert ultra("assign", f"api:{ports + 5}").status == 0
    lab.start("answering", ports, prefix=("env", "-C", "/"))

    run = ultra("resolve", *KEPT, str(ports))

    assert named(run) == [ports + 5], run.stdout
    words = ("run", "--port", f"api:{ports + 5}", "--", "sh", "-c", "echo $API_PORT")
    assert f"`ultra-ports {' '.join(words[:3])} -- COMMAND`" in run.stdout
    assert ultra(*words).stdout == f"{ports + 5}\n", "it does what it says"
    lab.start("answering", ports + 5)
    assert named(ultra("resolve", *KEPT, str(ports))) == [ports + 1], "that is held, too"


@pytest.mark.parametrize("command", ["run", "assign"])
def test_a_strict_wish_that_is_not_met_names_one(lab: Lab, ports: int, command: str) -> None:
    server = lab.start("answering", ports)
    words = ("-p", f"api:{ports}", "true") if command == "run" else (f"api:{ports}",)

    run = ultra(command, "--strict", *words)

    said = f"ultra-ports: api: {ports} is held by python {server.pid}; {ports + 1} is free\n"
    assert (run.status, run.stdout, run.stderr) == (1, "", said)


@pytest.mark.root
def test_what_is_hidden_names_one(lab: Lab, ports: int, as_nobody: tuple[str, ...]) -> None:
    lab.start("answering", ports)
    env = {"ULTRA_PORTS_STATE": "/nonexistent"}

    run = ultra("resolve", *QUICK, str(ports), prefix=as_nobody, env=env)

    assert (run.status, named(run)) == (4, [ports + 1]), run.stdout + run.stderr
    assert "nonexistent" not in run.stderr


def test_what_is_still_held_names_one(lab: Lab, ports: int) -> None:
    server = lab.start("answering", ports)

    run = ultra("resolve", *KEPT, str(ports))

    assert (run.status, named(run)) == (1, [ports + 1]), run.stdout
    assert server.alive


@pytest.mark.root
def test_what_cannot_be_decided_names_one(lab: Lab, ports: int, as_nobody: tuple[str, ...]) -> None:
    lab.start("answering", ports)
    with broken_socket(None) as path:
        env = {"DOCKER_HOST": f"unix://{path}"}
        run = ultra("resolve", "--settle", "0.1", str(ports), prefix=as_nobody, env=env)

    assert (run.status, named(run)) == (5, [ports + 1]), run.stdout + run.stderr


def test_none_where_the_port_is_freed_or_free(lab: Lab, ports: int) -> None:
    lab.start("answering", ports)
    for words in (("who",), ("resolve", "-n"), ("resolve", "--settle", "0.1"), ("resolve",)):
        run = ultra(*words, "--no-docker", str(ports))
        assert "is free: `" not in run.stdout + run.stderr, run.stdout
    lab.start("answering", ports)
    for words in (("who",), ("resolve", "-n"), ("resolve", "--settle", "0.1"), ("resolve",)):
        assert in_json(ultra(*words, "--no-docker", "--json", str(ports))) == [None]


def test_quiet_says_nothing(lab: Lab, ports: int) -> None:
    lab.start("answering", ports)

    run = ultra("resolve", "-q", *KEPT, str(ports))

    assert run.status == 1
    assert " is free" not in run.stdout + run.stderr


def test_what_others_have_or_want_is_passed_over(lab: Lab, project: Path, ports: int) -> None:
    lab.start("answering", ports)
    lab.start("answering", ports + 1)
    assert ultra("reserve", "db", str(ports + 2), cwd=project).status == 0
    (project / "ultra-ports.toml").write_text(f"[services]\nweb = {ports}\napi = {ports + 3}\n")

    run = ultra("resolve", *KEPT, str(ports))

    assert named(run) == [ports + 4], run.stdout
    assert f"--port web:{ports + 4} " in run.stdout


def test_one_that_no_browser_opens_is_passed_over(lab: Lab) -> None:
    port = next(each - 1 for each in sorted(REFUSED_BY_BROWSERS) if _both_free(each))
    lab.start("answering", port)

    (found,) = named(ultra("resolve", *KEPT, str(port)))

    assert found > port + 1
    assert found not in REFUSED_BY_BROWSERS


def _both_free(port: int) -> bool:
    return is_free(port - 1) and is_free(port) and port - 1 not in REFUSED_BY_BROWSERS


def test_several_get_different_ones_and_many_none(lab: Lab, ports: int) -> None:
    for number in range(5):
        lab.start("answering", ports + number)
    few = [str(ports + number) for number in range(4)]

    run = ultra("resolve", *KEPT, *few)
    found = named(run)
    assert len(set(found)) == 4, run.stdout
    assert min(found) > ports + 3
    assert ports + 4 not in found

    many = ultra("resolve", *KEPT, "--json", f"{ports}-{ports + 4}")
    assert (many.status, in_json(many)) == (1, [None] * 5)


def test_its_address_and_transport_are_kept(lab: Lab, ports: int) -> None:
    lab.start("answering", ports, "--udp", "127.0.0.1")

    run = ultra("resolve", *KEPT, f"127.0.0.1:{ports}/udp")

    assert f"`ultra-ports run --port web:127.0.0.1:{ports + 1}/udp -- COMMAND`" in run.stdout


@pytest.mark.root
def test_a_privileged_one_has_what_is_customary(as_nobody: tuple[str, ...]) -> None:
    env = {"ULTRA_PORTS_STATE": "/nonexistent"}
    run = ultra("resolve", "--no-docker", "127.0.0.9:79", prefix=as_nobody, env=env)
    assert run.status == 4, run.stdout
    (found,) = re.findall(r"^  127\.0\.0\.9:(\d+) is free: ", run.stdout, re.MULTILINE)
    assert int(found) in range(8079, 8180)


def test_the_last_port_of_all_has_one_below() -> None:
    with socket.create_server(("127.0.0.1", 65535)):
        run = ultra("resolve", "--no-docker", "--json", "127.0.0.1:65535")

    assert run.status == 3, run.stdout
    (found,) = in_json(run)
    assert found is not None
    assert found < 65535


@pytest.mark.parametrize("where", ["redis://127.0.0.1:1/0", "nonsense"])
def test_a_store_that_cannot_be_opened_fails_nothing(lab: Lab, ports: int, where: str) -> None:
    lab.start("answering", ports)

    run = ultra("resolve", *KEPT, str(ports), env={"ULTRA_PORTS_STORE": where})

    assert (run.status, named(run)) == (1, []), run.stdout + run.stderr
    assert "still held" in run.stdout


@pytest.mark.engine
@pytest.mark.slow
def test_preflight_and_what_frees_a_project(
    engine: Engine, lab: Lab, tmp_path: Path, ports: int
) -> None:
    lab.start("answering", ports)
    services = {"web": published(ports), "api": published(ports + 1)}
    with stack(engine, tmp_path / "shop", services) as shop:
        run = ultra("preflight", *shop.options)
        told = ultra("preflight", *shop.options, "--json")
        tried = ultra("resolve", "--compose", "-i", *shop.options)
        quiet = ultra("preflight", "-q", *shop.options)
        github = ultra("preflight", "--format", "github", *shop.options)

    free = f"{ports + 2} is free"  # the one above is for the project itself
    (line,) = [each for each in run.stdout.splitlines() if each.startswith("conflict: ")]
    assert line.endswith(f"; {free}"), line
    entries = {each["port"]: each["nearest_free"] for each in told.json["report"]}
    assert entries == {ports: ports + 2, ports + 1: None}
    assert f"\n  {free}\n" in tried.stdout, tried.stdout
    assert quiet.stdout + quiet.stderr == ""
    assert f"; {free}" in github.stdout


@pytest.mark.engine
@pytest.mark.slow
def test_preflight_of_what_is_the_projects_own(engine: Engine, tmp_path: Path, ports: int) -> None:
    with stack(engine, tmp_path / "shop", {"web": published(ports)}) as shop:
        shop("up", "--detach")
        shop.container("web").wait_for(ports)
        told = ultra("preflight", *shop.options, "--json")

    assert told.status == 0, told.stdout
    assert [each["nearest_free"] for each in told.json["report"]] == [None]
