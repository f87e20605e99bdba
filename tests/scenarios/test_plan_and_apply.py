"""`resolve --plan-out` and `apply`: just what was planned is done, or nothing at all."""

from __future__ import annotations

import json
import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from resolver import apply, plan
from resolver.errors import PlanChangedError
from tests.lab import contracts
from tests.lab.cli import Run, refused, ultra
from tests.lab.ports import free_port, is_free
from tests.lab.processes import alive, answered_by, stays, stays_free, unavailable, wait_until
from tests.lab.supervisord import program, serving
from tests.lab.troupe import Troupe, troupe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.lab.engine import Engine
    from tests.lab.processes import Lab
    from tests.lab.supervisord import Supervisor

FAST = ("--settle", "0.3", "--grace", "1")


@pytest.fixture
def actors(lab: Lab) -> Iterator[Troupe]:
    """Processes that change when they are told to."""
    with troupe(lab) as actors:
        yield actors


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the plan goes."""
    return tmp_path / "plan.json"


def planned(file: Path, *arguments: str) -> Run:
    """Makes a plan, which is there to be read."""
    run = ultra("resolve", "--plan-out", str(file), *arguments)
    assert contracts.read(file.read_text())["schema"] == "ultra-ports.plan/1"
    return run


def applied(file: Path, *arguments: str, prefix: tuple[str, ...] = ()) -> Run:
    """Applies the plan in the file."""
    return ultra("apply", *FAST, *arguments, str(file), prefix=prefix)


def assert_refused(run: Run, *names: str) -> None:
    """Asserts one clear line that has all of the names, and nothing else."""
    assert run.status == 3, run.stdout + run.stderr
    assert run.stdout == ""
    (line,) = run.stderr.splitlines()
    assert "nothing was touched" in line
    for name in names:
        assert name in line


def edited(file: Path, edit: Callable[[Any], object]) -> None:
    """A stranger has had the file."""
    document = json.loads(file.read_text())
    edit(document)
    file.write_text(json.dumps(document))


def test_a_plan_touches_nothing_and_its_application_does_it(lab: Lab, file: Path) -> None:
    port = free_port()
    server = lab.start("prefork", port)
    client = lab.start("client", port)

    run = planned(file, str(port))
    assert run.status == 0, run.stdout + run.stderr
    assert f"{port}/tcp" in run.stdout
    assert answered_by(port) is not None
    assert server.signals() == []

    run = applied(file, "--json")
    assert run.status == 0, run.stdout + run.stderr
    assert run.json["command"] == "apply"
    assert run.port(f"{port}/tcp")["verdict"] == "freed"
    assert not server.alive
    assert "lost a worker" not in {event["event"] for event in server.events()}
    assert client.alive
    assert client.signals() == []


def test_a_free_port_has_an_empty_plan(file: Path) -> None:
    port = str(free_port())
    assert planned(file, port).status == 0
    assert json.loads(file.read_text())["holders"] == []
    assert applied(file).status == 0


def test_who_came_meanwhile_is_not_touched(lab: Lab, file: Path) -> None:
    port = free_port()
    planned(file, str(port))
    server = lab.start("answering", port)
    assert_refused(applied(file), str(server.pid), f"127.0.0.1:{port}/tcp", "not in the plan")
    assert server.alive
    assert server.signals() == []


def test_a_holder_that_was_replaced(actors: Troupe, file: Path) -> None:
    port = free_port()
    order = f"bind tcp 127.0.0.1 {port}"
    first, second = actors.actor(), actors.actor()
    assert first.told(order) == "ok"
    planned(file, str(port))
    first.ends()
    assert second.told(order) == "ok"
    assert_refused(applied(file), str(first.pid), str(second.pid), f"127.0.0.1:{port}/tcp")
    assert stays(lambda: second.alive)
    assert actors.news() == []


@pytest.mark.parametrize("change", ["rebinds", "forks", "is joined", "lets go"])
def test_a_holder_that_changed(actors: Troupe, file: Path, change: str) -> None:
    port = free_port()
    share = f"bind tcp 127.0.0.1 {port} share"
    holder, other = actors.actor(), actors.actor()
    assert holder.told(share) == "ok"
    planned(file, str(port))
    if change in {"rebinds", "lets go"}:
        assert holder.told("close") == "ok"
    if change == "rebinds":
        assert holder.told(share) == "ok"
    if change == "forks":
        assert actors.fork(holder)
    if change == "is joined":
        assert other.told(share) == "ok"
    who = other if change == "is joined" else holder
    assert_refused(applied(file), str(who.pid), f"127.0.0.1:{port}/tcp")
    assert stays(lambda: holder.alive and other.alive, 0.5)
    assert actors.news() == []


@pytest.mark.root
def test_a_holder_that_changed_its_user(actors: Troupe, file: Path) -> None:
    if os.geteuid() != 0:
        unavailable("changing a user needs root")
    port = free_port()
    holder = actors.actor()
    assert holder.told(f"bind tcp 127.0.0.1 {port}") == "ok"
    planned(file, str(port))
    assert holder.told("become 65534") == "ok"
    assert_refused(applied(file), str(holder.pid), "processes")
    assert actors.news() == []


def test_who_takes_the_port_in_between_is_left_alone(actors: Troupe, file: Path) -> None:
    port = free_port()
    order = f"bind tcp 127.0.0.1 {port}"
    holder, taker = actors.actor(), actors.actor("ignore")
    assert holder.told(order) == "ok"
    planned(file, str(port))

    def take() -> None:
        wait_until(lambda: taker.told(order) == "ok", "the port is taken")

    with ThreadPoolExecutor() as pool:
        taking = pool.submit(take)
        run = applied(file, "--json")
        taking.result()

    assert run.status == 1, run.stdout + run.stderr
    report = run.port(f"{port}/tcp")
    assert report["verdict"] == "retaken"
    (found,) = report["retaken_by"]
    assert [process["pid"] for process in found["processes"]] == [taker.pid]
    assert stays(lambda: taker.alive, 0.5)
    assert taker.pid not in {event["pid"] for event in actors.news()}


def test_force_kills_at_once(lab: Lab, file: Path) -> None:
    port = free_port()
    server = lab.start("answering", port, "--ignore")
    planned(file, str(port))
    run = ultra("apply", "--settle", "0.3", "--force", str(file))
    assert run.status == 0, run.stdout + run.stderr
    assert not server.alive
    assert server.signals() == []


def test_a_stranger_cannot_point_it_at_another_process(lab: Lab, file: Path) -> None:
    port = free_port()
    holder, victim = lab.start("answering", port), lab.start("answering", free_port())
    planned(file, str(port))
    text = file.read_text()
    assert str(holder.pid) in text
    file.write_text(text.replace(str(holder.pid), str(victim.pid)))
    assert_refused(applied(file))
    assert holder.alive
    assert victim.alive
    assert holder.signals() + victim.signals() == []


def test_a_stranger_cannot_make_it_run_a_command(lab: Lab, file: Path, tmp_path: Path) -> None:
    port = free_port()
    server = lab.start("answering", port)
    planned(file, str(port))
    evil = ["touch", str(tmp_path / "evil")]
    manager = {"kind": "systemd", "name": "x", "policy": "", "stop": [evil], "start": [evil]}
    step = {"kind": "stop-service", "bindings": [f"127.0.0.1:{port}/tcp"], "manager": manager}

    def edit(document: Any) -> None:  # noqa: ANN401
        document["options"]["stop_services"] = True
        document["holders"][0] |= {"manager": manager, "step": step, "kind": "service"}

    edited(file, edit)
    assert_refused(applied(file), str(server.pid))
    assert not (tmp_path / "evil").exists()
    assert server.signals() == []


@pytest.mark.parametrize("part", ["boot", "pid_namespace", "network_namespace"])
def test_a_plan_of_another_machine(lab: Lab, file: Path, part: str) -> None:
    port = free_port()
    server = lab.start("answering", port)
    planned(file, str(port))
    edited(file, lambda document: document["machine"].update({part: "another"}))
    assert_refused(applied(file))
    assert server.signals() == []


@pytest.mark.root
@pytest.mark.parametrize("kind", ["--pid", "--net"])
def test_a_plan_of_another_namespace(lab: Lab, file: Path, kind: str) -> None:
    unshare = shutil.which("unshare")
    if os.geteuid() != 0 or unshare is None:
        unavailable("a namespace needs root and unshare(1)")
    port = free_port()
    server = lab.start("answering", port)
    planned(file, str(port))
    fork = ("--fork", "--mount-proc") if kind == "--pid" else ()
    assert_refused(applied(file, prefix=(unshare, kind, *fork)), "namespace")
    assert server.signals() == []


def assert_none_is_a_plan(folder: Path, texts: list[str], why: str = "") -> None:
    files = [folder / str(number) for number in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text)
    refused((((*FAST, str(file)), why) for file in files), "apply")


def test_files_that_are_no_plan(tmp_path: Path) -> None:
    texts = [
        "",
        "not json",
        "[]",
        "{}",
        "[" * 100_000,
        '{"schema": "ultra-ports.report/1"}',
        '{"schema": "ultra-ports.plan/2", "holders": []}',
        '{"schema": "ultra-ports.plan/1", "holders": []}',
        '{"schema": ["ultra-ports.plan/1"]}',
    ]
    assert_none_is_a_plan(tmp_path, texts)


def test_damaged_files(tmp_path: Path, file: Path) -> None:
    damages: list[tuple[str, object]] = [
        ("requests", ["8085/tcp", 1]),
        ("requests", ["8085"]),
        ("requests", ["1-65535/tcp"]),
        ("holders", [{}]),
        ("holders", {"a": 1}),
        ("machine", None),
        ("options", {"stop_services": 1, "force": False, "use_docker": True}),
    ]
    planned(file, str(free_port()))
    plan = json.loads(file.read_text())
    texts = [json.dumps({**plan, where: value}) for where, value in damages]
    assert_none_is_a_plan(tmp_path, texts, "damaged")


def test_bytes_that_are_no_text_and_files_that_are_not_there(file: Path, tmp_path: Path) -> None:
    file.write_bytes(b"\xff\xfe")
    for path in (file, tmp_path / "absent", tmp_path, Path("/dev/zero")):
        run = applied(path)
        assert (run.status, run.stdout) == (2, ""), path
        assert len(run.stderr.splitlines()) == 1


def test_a_hostile_name_is_escaped(lab: Lab, file: Path) -> None:
    port = free_port()
    lab.start("answering", port)
    planned(file, str(port))
    edited(file, lambda d: d["holders"][0]["processes"][0].update(name="\x1b[2Jx\n\ud800"))
    run = applied(file)
    assert_refused(run, "\\x1b[2Jx\\n\\ud800")


def test_the_standard_streams(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port)
    run = ultra("resolve", "--plan-out", "-", str(port))
    assert run.status == 0
    assert json.loads(run.stdout)["requests"] == [f"{port}/tcp"]
    run = ultra("apply", *FAST, "-", stdin=run.stdout)
    assert run.status == 0, run.stdout + run.stderr
    assert not server.alive


def test_two_things_on_stdout_are_too_many() -> None:
    run = ultra("resolve", "--json", "--plan-out", "-", str(free_port()))
    assert (run.status, run.stdout) == (2, "")


def test_a_plan_is_written_whole_or_not_at_all(file: Path, tmp_path: Path) -> None:
    port = str(free_port())
    for target in (tmp_path / "absent" / "plan.json", tmp_path, Path("/dev/full")):
        run = ultra("resolve", "--plan-out", str(target), port)
        assert (run.status, run.stdout) == (2, ""), target
        assert len(run.stderr.splitlines()) == 1
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)
    link = tmp_path / "link.json"
    link.symlink_to(file)
    planned(link, port)
    assert link.is_symlink()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link.json", "plan.json"]


def test_json_has_an_envelope_for_a_refusal_too(lab: Lab, file: Path) -> None:
    port = free_port()
    planned(file, str(port))
    lab.start("answering", port)
    run = applied(file, "--json")
    assert run.status == run.json["exit_status"] == 3
    assert run.port(f"{port}/tcp")["verdict"] == "refused"
    assert "not in the plan" in run.port(f"{port}/tcp")["reason"]


def test_from_python(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port)
    report, text = plan(port)
    assert (report.exit_status, report.dry_run) == (0, True)
    assert apply(text, grace_seconds=1, settle_seconds=0.3).exit_status == 0
    assert not server.alive
    with pytest.raises(PlanChangedError, match=str(server.pid)) as caught:
        apply(text)
    assert caught.value.report.exit_status == caught.value.status == 3


@pytest.mark.engine
def test_a_container_that_is_the_same_again(engine: Engine, file: Path) -> None:
    port = free_port()
    web = engine.publish(f"{port}:80")
    web.wait_for(port)
    assert planned(file, str(port)).status == 0
    engine("restart", "--time", "1", web.name)
    web.wait_for(port)

    run = applied(file, "--json")

    assert run.status == 0, run.stdout + run.stderr
    assert web.state == "exited"
    assert stays_free(port)


@pytest.mark.engine
@pytest.mark.parametrize("change", ["another container", "another address", "another policy"])
def test_a_container_that_is_not(engine: Engine, file: Path, change: str) -> None:
    port = free_port()
    web = engine.publish(f"{port}:80")
    web.wait_for(port)
    planned(file, str(port))
    if change == "another policy":
        engine("update", "--restart", "always", web.name)
    else:
        engine("rm", "--force", web.name)
        wait_until(lambda: is_free(port), f"{port} is free")
        web = engine.publish(f"{'127.0.0.1:' if 'address' in change else ''}{port}:80")
    web.wait_for(port)
    run = applied(file)
    assert_refused(run, web.name)
    assert stays(lambda: web.serves(port), 0.5)


@pytest.mark.engine
def test_a_container_without_an_engine_to_ask(engine: Engine, file: Path) -> None:
    port = free_port()
    web = engine.publish(f"{port}:80")
    web.wait_for(port)
    planned(file, str(port))
    assert_refused(applied(file, "--no-docker"), web.name)
    assert web.serves(port)


@pytest.mark.supervisord
@pytest.mark.slow
def test_a_service_is_asked_about_again(supervisor: Supervisor, file: Path) -> None:
    port = free_port()
    supervisor.start(program("web", serving(port), "true"))
    wait_until(lambda: answered_by(port), f"a server answers on {port}")
    run = planned(file, "--stop-services", str(port))
    assert run.status == 0, run.stdout + run.stderr
    before = supervisor.program("web")

    supervisor.ctl("restart", "web")
    wait_until(lambda: answered_by(port) not in {None, before}, "another process serves")
    pid = supervisor.program("web")
    assert_refused(applied(file), str(before), str(pid))
    assert stays(lambda: alive(pid), 0.5)

    planned(file, "--stop-services", str(port))
    run = applied(file, "--json")
    assert run.status == 0, run.stdout + run.stderr
    assert supervisor.program("web") == 0
    assert stays_free(port)
