"""Before `docker compose up`: what is in the way is said, and `resolve --compose` frees it."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.cli import Run, ultra
from tests.lab.compose import published, stack
from tests.lab.engine import EngineError, broken_socket
from tests.lab.ports import free_port, free_range, is_free
from tests.lab.processes import answered_by, stays_free

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.lab.compose import Project
    from tests.lab.engine import Engine
    from tests.lab.processes import Lab

pytestmark = [pytest.mark.engine, pytest.mark.slow]

FAST = ("--settle", "0.3", "--grace", "1")


def preflight(project: Project, *arguments: str, env: Mapping[str, str] | None = None) -> Run:
    return ultra("preflight", *project.options, "--json", *arguments, env=env)


def entries(run: Run) -> dict[str, str]:
    """The status of each entry, by its port."""
    return {
        (each["labels"] or [each["text"]])[0]: each["status"]
        for service in run.json["services"]
        for each in service["ports"]
    }


def codes(run: Run) -> list[tuple[str, str]]:
    return [(each["level"], each["code"]) for each in run.json["findings"]]


def write(folder: Path, services: Mapping[str, Any]) -> tuple[str, ...]:
    """A compose file for tests that start nothing; the options that name it."""
    file = folder / "compose.json"
    described = {name: {"image": "x", **service} for name, service in services.items()}
    file.write_text(json.dumps({"services": described}))
    return "-f", str(file), "--project", f"lab{free_port()}"


def test_nothing_in_the_way(engine: Engine, tmp_path: Path) -> None:
    port = free_port()
    with stack(engine, tmp_path, {"web": published(port, "80"), "db": {}}) as shop:
        run = preflight(shop)

        assert run.status == 0, run.stdout + run.stderr
        assert entries(run) == {f"{port}/tcp": "free", "80": "automatic"}
        assert run.json["schema"] == "ultra-ports.preflight/1"
        assert run.json["project"]["files"] == [str(tmp_path / "compose.json")]
        assert [each["label"] for each in run.json["report"]] == [f"{port}/tcp"]
        assert is_free(port)
        assert not engine("ps", "-aq", "--filter", f"label=com.docker.compose.project={shop.name}")


def test_a_local_process(engine: Engine, lab: Lab, tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    server = lab.start("answering", port)
    with stack(engine, tmp_path, {"web": published(port), "api": published(other)}) as shop:
        run = preflight(shop)

        assert run.status == 3, run.stdout + run.stderr
        assert entries(run) == {f"{port}/tcp": "held", f"{other}/tcp": "free"}
        assert codes(run) == [("conflict", "held")]
        (found,) = run.json["findings"]
        assert (found["services"], found["ports"]) == (["web"], [f"{port}/tcp"])
        assert found["hint"].startswith("ultra-ports resolve --compose -f ")
        held = next(each for each in run.json["report"] if each["label"] == f"{port}/tcp")
        assert [each["pid"] for each in held["holders"][0]["processes"]] == [server.pid]

        said = ultra("preflight", *shop.options)
        assert said.status == 3
        assert f"next: ultra-ports resolve --compose -f {tmp_path}/compose.json" in said.stdout
        row = next(line for line in said.stdout.splitlines() if line.startswith("web "))
        assert row.split()[1:] == [f"{port}/tcp", "80/tcp", "held", "python", str(server.pid)]
        assert said.stdout.count("conflict: ") == 1
        assert f"PID {server.pid}, " not in said.stdout
        assert f"PID {server.pid}, " in ultra("preflight", "-v", *shop.options).stdout
        assert answered_by(port) == server.pid


def test_what_is_reserved_is_called_that(engine: Engine, tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    with stack(engine, tmp_path, {"web": published(port), "api": published(other)}) as shop:
        assert ultra("reserve", "web", str(port), cwd=tmp_path).status == 0

        run = preflight(shop)

        assert (run.status, run.json["findings"]) == (0, []), run.stdout + run.stderr
        assert entries(run) == {f"{port}/tcp": "reserved", f"{other}/tcp": "free"}
        assert "reserved" in ultra("preflight", *shop.options).stdout
        who = ultra("who", str(port), "--json")
        assert (who.status, who.json["ports"][0]["verdict"]) == (0, "reserved")
        assert "for web of project" in who.json["ports"][0]["reason"]
        assert ultra("resolve", str(port), "--json").json["ports"][0]["verdict"] == "free"


def test_udp_is_looked_at_too(engine: Engine, lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    server = lab.start("answering", port, "--udp", "0.0.0.0")
    services = {"web": published(port), "dns": published(f"{port}:53/udp")}
    with stack(engine, tmp_path, services) as shop:
        run = preflight(shop)
        assert run.status == 3, run.stdout + run.stderr
        assert entries(run) == {f"{port}/tcp": "free", f"{port}/udp": "held"}
        assert answered_by(port, transport="udp") == server.pid


def test_another_projects_container(engine: Engine, tmp_path: Path) -> None:
    port = free_port()
    with (
        stack(engine, tmp_path / "a", {"web": published(port)}) as theirs,
        stack(engine, tmp_path / "b", {"web": published(port)}) as ours,
    ):
        theirs("up", "--detach")
        theirs.container("web").wait_for(port)

        run = preflight(ours)

        assert run.status == 3, run.stdout + run.stderr
        assert codes(run) == [("conflict", "held")]
        assert theirs.container("web").name in run.json["findings"][0]["message"]
        assert theirs.container("web").serves(port)


def test_its_own_containers_are_no_conflict(engine: Engine, tmp_path: Path) -> None:
    port = free_port()
    with stack(engine, tmp_path, {"web": published(port)}) as shop:
        shop("up", "--detach")
        web = shop.container("web")
        web.wait_for(port)
        before = web.id

        run = preflight(shop)
        assert (run.status, run.json["findings"]) == (0, []), run.stdout + run.stderr
        assert entries(run) == {f"{port}/tcp": "yours"}

        run = ultra("resolve", "--compose", *shop.options, *FAST, "--json")
        assert run.status == 0, run.stdout + run.stderr
        assert run.json["ports"] == []
        assert any(f"{web.name}, of this project" in note for note in run.json["notes"])
        assert (web.id, web.serves(port)) == (before, True)


def test_a_port_that_moves_to_another_service(engine: Engine, tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    with stack(engine, tmp_path, {"web": published(port)}) as shop:
        shop("up", "--detach")
        shop.container("web").wait_for(port)
        shop.write({"web": published(other), "api": published(port)})

        run = preflight(shop)

        assert run.status == 0, run.stdout + run.stderr
        assert codes(run) == [("warning", "moved")]
        shop("up", "--detach")  # and so it is: compose replaces web before it starts api
        shop.container("api").wait_for(port)


def test_orphans_and_disabled_services(engine: Engine, tmp_path: Path) -> None:
    port = free_port()
    with stack(engine, tmp_path, {"old": published(port)}) as shop:
        shop("up", "--detach")
        old = shop.container("old")
        old.wait_for(port)

        shop.write({"web": published(port)})
        run = preflight(shop)
        assert run.status == 3, run.stdout + run.stderr
        assert entries(run) == {f"{port}/tcp": "orphan"}
        assert codes(run) == [("conflict", "orphan")]
        assert "no longer in the file" in run.json["findings"][0]["message"]
        assert run.json["findings"][0]["hint"] == "docker compose up --remove-orphans"

        shop.write({"web": published(port), "old": published(port, profiles=["later"])})
        run = preflight(shop)
        assert run.status == 3, run.stdout + run.stderr
        assert "no profile enables" in run.json["findings"][0]["message"]
        assert run.json["findings"][0]["hint"] == f"docker stop {old.name}"

        run = ultra("resolve", "--compose", *shop.options, *FAST, "--json")
        assert run.status == 3
        assert run.port(f"{port}/tcp")["verdict"] == "refused"
        assert old.serves(port)


def test_what_compose_run_started_stays(engine: Engine, tmp_path: Path) -> None:
    port = free_port()
    with stack(engine, tmp_path, {"web": published(port)}) as shop:
        name = shop("run", "--detach", "--rm", "--service-ports", "web").splitlines()[-1]
        try:
            run = preflight(shop)
            assert run.status == 3, run.stdout + run.stderr
            assert codes(run) == [("conflict", "orphan")]
            assert "docker compose run" in run.json["findings"][0]["message"]
        finally:
            engine("rm", "--force", name)


def test_another_directory_with_the_projects_name(engine: Engine, tmp_path: Path) -> None:
    port = free_port()
    with stack(engine, tmp_path / "a", {"web": published(port)}) as theirs:
        theirs("up", "--detach")
        theirs.container("web").wait_for(port)
        before = theirs.container("web").id
        (tmp_path / "b").mkdir()
        file = tmp_path / "b" / "compose.json"
        file.write_text((tmp_path / "a" / "compose.json").read_text())
        env = {"COMPOSE_PROJECT_NAME": theirs.name}

        run = ultra("preflight", "-f", str(file), "--json", env=env)
        assert run.status == 0, run.stdout + run.stderr
        assert codes(run) == [("warning", "project-name")]
        assert str(tmp_path / "a") in run.json["findings"][0]["message"]

        named = json.loads(file.read_text()) | {"name": theirs.name}
        file.write_text(json.dumps(named))
        run = ultra("up", "-f", str(file), "--json")  # nobody said that this name is meant
        assert run.status == 3, run.stdout + run.stderr
        assert "another directory's containers" in run.json["refusal"]
        assert theirs.container("web").id == before


def test_a_range_needs_one_of_its_ports(engine: Engine, lab: Lab, tmp_path: Path) -> None:
    first = free_range(2)
    label = f"{first}/tcp"
    held = lab.start("answering", first)
    with stack(engine, tmp_path, {"web": published(f"{first}-{first + 1}:80")}) as shop:
        run = preflight(shop)
        assert run.status == 0, run.stdout + run.stderr
        assert entries(run) == {label: "free"}
        assert codes(run) == [("warning", "range-taken")]

        run = ultra("resolve", "--compose", *shop.options, *FAST, "--json")
        assert (run.status, run.json["ports"]) == (0, []), run.stdout + run.stderr
        assert answered_by(first) == held.pid

        other = lab.start("answering", first + 1)
        run = preflight(shop)
        assert run.status == 3, run.stdout + run.stderr
        assert entries(run) == {label: "held"}

        run = ultra("resolve", "--compose", *shop.options, *FAST, "--json")
        assert run.status == 0, run.stdout + run.stderr
        assert run.port(label)["verdict"] == "freed"  # one is enough
        assert answered_by(first + 1) == other.pid


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    options = write(tmp_path, {"web": {"ports": [f"192.0.2.7:{free_port()}:80"]}})
    run = ultra("preflight", *options, "--json")
    assert run.status == 3, run.stdout + run.stderr
    assert codes(run) == [("conflict", "no-such-address")]


def test_a_port_in_the_ephemeral_range(tmp_path: Path) -> None:
    options = write(tmp_path, {"web": {"ports": ["60999:80"]}})
    run = ultra("preflight", *options, "--json")
    assert ("warning", "ephemeral") in codes(run)


# --- what preflight calls a conflict, compose fails on; what it calls a warning, it does not ------

PORT = "%d"
FACTS: dict[str, tuple[str, dict[str, Any]]] = {
    "two-services": ("conflict", {"a": published(f"{PORT}:80"), "b": published(f"{PORT}:80")}),
    "two-services beside": (
        "conflict",
        {"a": published(f"{PORT}:80"), "b": published(f"127.0.0.1:{PORT}:80")},
    ),
    "overlap": ("conflict", {"a": published(f"{PORT}:80", f"{PORT}:81")}),
    "replicas": ("conflict", {"a": published(f"{PORT}:80", deploy={"replicas": 2})}),
    "shared-network": (
        "conflict",
        {"a": published(f"{PORT}:80", network_mode="service:b"), "b": {}},
    ),
    "not-a-port": ("conflict", {"a": {"ports": [{"target": 80, "published": "abc"}]}}),
    "host-network": (
        "warning",
        {"a": published(f"{PORT}:80", network_mode="host", environment={"LISTEN": PORT})},
    ),
    "no-network": ("warning", {"a": published(f"{PORT}:80", network_mode="none")}),
    "": (
        "",
        {"a": published(f"0.0.0.0:{PORT}:80"), "b": published(f"[::]:{PORT}:80")},
    ),
}


@pytest.mark.parametrize("case", FACTS)
def test_preflight_says_what_compose_will_do(engine: Engine, tmp_path: Path, case: str) -> None:
    level, described = FACTS[case]
    services = json.loads(json.dumps(described).replace(PORT, str(free_port())))
    with stack(engine, tmp_path, services) as shop:
        run = preflight(shop)
        expected = [(level, case.partition(" ")[0])] if case else []
        assert codes(run) == expected, run.stdout + run.stderr
        assert run.status == (3 if level == "conflict" else 0)

        failure = pytest.raises(EngineError) if run.status else contextlib.nullcontext()
        with failure:
            shop("up", "--detach")


def test_conflicts_in_the_file_spare_those_outside(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    server = lab.start("answering", port)
    options = write(tmp_path, {"web": {"ports": [f"{port}:80"]}, "api": {"ports": [f"{port}:80"]}})
    run = ultra("resolve", "--compose", *options, *FAST, "--json")
    assert run.status == 3, run.stdout + run.stderr
    assert run.port(f"{port}/tcp")["verdict"] == "refused"
    assert "only one of them" in run.port(f"{port}/tcp")["reason"]
    assert answered_by(port) == server.pid


# --- resolve --compose ----------------------------------------------------------------------------


def test_resolve_frees_what_outsiders_hold_and_nothing_else(
    engine: Engine, lab: Lab, tmp_path: Path
) -> None:
    taken, own, innocent, extra = (free_port() for _ in range(4))
    with stack(engine, tmp_path, {"api": published(own), "web": published(taken)}) as shop:
        shop("up", "--detach", "api")
        api = shop.container("api")
        api.wait_for(own)
        server, bystander = lab.start("answering", taken), lab.start("answering", innocent)
        named = lab.start("answering", extra)

        dry = ultra("resolve", "--compose", *shop.options, *FAST, "--json", "--dry-run")
        assert (dry.status, dry.json["dry_run"]) == (0, True), dry.stdout + dry.stderr
        assert answered_by(taken) == server.pid

        run = ultra("resolve", "--compose", *shop.options, *FAST, "--json", str(extra))

        assert run.status == 0, run.stdout + run.stderr
        verdicts = {each["label"]: each["verdict"] for each in run.json["ports"]}
        assert verdicts == {f"{taken}/tcp": "freed", f"{extra}/tcp": "freed"}
        assert not server.alive
        assert not named.alive
        assert stays_free(taken, 0.5)
        assert api.serves(own)
        assert answered_by(innocent) == bystander.pid


def test_a_plan_for_a_project(engine: Engine, lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    server = lab.start("answering", port)
    plan = str(tmp_path / "plan.json")
    with stack(engine, tmp_path, {"web": published(port)}) as shop:
        run = ultra("resolve", "--compose", *shop.options, "--plan-out", plan)
        assert run.status == 0, run.stdout + run.stderr
        assert server.alive
        assert ultra("apply", plan, *FAST).status == 0
        assert not server.alive


def test_no_plan_against_the_projects_own_container(
    engine: Engine, lab: Lab, tmp_path: Path
) -> None:
    """It has one address of the port, and somebody else another: `apply` knows no project."""
    port = free_port()
    plan = tmp_path / "plan.json"
    with stack(engine, tmp_path, {"web": published(f"127.0.0.1:{port}:80")}) as shop:
        shop("up", "--detach")
        web = shop.container("web")
        web.wait_for(port)
        server = lab.start("answering", port, "--tcp", "127.0.0.2")
        shop.write({"web": published(port)})

        run = ultra("resolve", "--compose", *shop.options, "--plan-out", str(plan))
        assert (run.status, plan.exists()) == (2, False), run.stdout + run.stderr
        assert f"{web.name} of the project itself" in run.stderr

        run = ultra("resolve", "--compose", *shop.options, *FAST, "--json")
        assert not server.alive, run.stdout + run.stderr
        assert web.serves(port)


def test_no_plan_where_there_is_nothing_to_free(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    options = write(tmp_path, {"web": {"ports": ["80"]}})
    run = ultra("resolve", "--compose", *options, "--plan-out", str(plan))
    assert run.status == 2
    assert "no plan was made: there is no port of the project to free" in run.stderr
    assert not plan.exists()


@pytest.mark.parametrize("option", [("-f", "x"), ("--profile", "x"), ("--project", "x")])
def test_the_projects_options_go_with_compose(option: tuple[str, str]) -> None:
    run = ultra("resolve", "1", *option)
    assert run.status == 2
    assert "go with --compose" in run.stderr


# --- what is not known ----------------------------------------------------------------------------


def test_an_engine_that_does_not_answer(engine: Engine, lab: Lab, tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    with (
        stack(engine, tmp_path, {"web": published(port)}) as shop,
        broken_socket(None) as wedged,
    ):
        env = {"DOCKER_HOST": f"unix://{wedged}"}
        clear = preflight(shop, "--docker-timeout", "0.5", env=env)
        assert clear.status == 0, clear.stdout + clear.stderr
        assert any("did not answer" in note for note in clear.json["notes"])

        shop("up", "--detach")
        shop.container("web").wait_for(port)
        lab.start("answering", other)
        run = preflight(shop, "--no-docker")
        assert run.status == 5, run.stdout + run.stderr  # our own container's forwarder, or not
        assert entries(run) == {f"{port}/tcp": "unknown"}
        assert codes(run) == [("warning", "unknown")]


def test_a_range_of_which_nobody_knows_who_has_it(engine: Engine, tmp_path: Path) -> None:
    first = free_range(2)
    with stack(engine, tmp_path, {"web": published(f"{first}-{first + 1}:80", scale=2)}) as shop:
        shop("up", "--detach")
        run = ultra("preflight", *shop.options, "--no-docker", "--json")
        assert run.status == 5, run.stdout + run.stderr
        run = ultra("resolve", "--compose", *FAST, *shop.options, "--no-docker", "--json")
        assert run.status == 5, run.stdout + run.stderr
        assert {each["verdict"] for each in run.json["ports"]} == {"undecided"}


def test_a_holder_that_is_hidden(lab: Lab, as_nobody: tuple[str, ...]) -> None:
    port = free_port()
    server = lab.start("answering", port)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        options = write(Path(folder), {"web": {"ports": [f"{port}:80"]}})
        home = {"HOME": folder}  # in root's, docker finds no plug-in
        run = ultra("preflight", *options, "--json", "--no-docker", prefix=as_nobody, env=home)
        said = ultra("preflight", *options, "--no-docker", prefix=as_nobody, env=home)
    assert run.status == 4, run.stdout + run.stderr
    assert entries(run) == {f"{port}/tcp": "hidden"}
    assert f"{port}/tcp for web is held by root (not visible to you" in said.stdout
    assert said.stdout.splitlines()[-1].startswith("next: sudo ")
    assert "ultra-ports resolve --compose -f " in said.stdout.splitlines()[-1]
    assert server.alive


def test_no_compose_file(tmp_path: Path) -> None:
    for command in (["preflight"], ["resolve", "--compose"], ["up"]):
        run = ultra(*command, "-f", str(tmp_path / "missing.yml"))
        assert (run.status, run.stdout) == (2, ""), command
        assert len(run.stderr.splitlines()) == 1


def test_a_file_that_makes_no_sense(tmp_path: Path) -> None:
    file = tmp_path / "compose.yml"
    file.write_text("services: [not, a, mapping\n")
    run = ultra("preflight", "-f", str(file))
    assert (run.status, run.stdout) == (2, "")
    assert len(run.stderr.splitlines()) == 1


def test_without_any_compose_nothing_is_touched(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    server = lab.start("answering", port)
    options = write(tmp_path, {"web": {"ports": [f"{port}:80"]}})
    empty = tmp_path / "bin"
    empty.mkdir()
    for command in (["preflight"], ["resolve", "--compose"], ["up"]):
        run = ultra(*command, *options, env={"PATH": str(empty)})
        assert (run.status, run.stdout) == (2, ""), command
        assert len(run.stderr.splitlines()) == 1, run.stderr
        assert "there is no compose command" in run.stderr
    assert answered_by(port) == server.pid
