"""`ultra-ports assign`: real servers in the way, real worktrees, and many at once."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import Run, refused, ultra
from tests.lab.ports import free_port, free_range
from tests.lab.processes import unavailable, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.engine import Engine
    from tests.lab.processes import Lab


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project and a store of the test's own; returns the project's directory."""
    monkeypatch.setenv("ULTRA_PORTS_STATE", str(tmp_path / "state"))
    for name in ("API_PORT", "WEB_PORT", "DNS_PORT"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "work" / "shop"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def assign(*arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> Run:
    """Runs `assign`, in another directory where one is given."""
    prefix = ("env", "-C", str(cwd)) if cwd else ()
    return ultra("assign", *arguments, prefix=prefix, env=env)


def ports(run: Run) -> dict[str, int]:
    """The ports on stdout, by their variables."""
    assert run.status == 0, run.stderr
    pairs = (line.split("=", 1) for line in run.stdout.splitlines())
    return {name: int(text) for name, text in pairs if name.endswith("_PORT")}


def leased() -> dict[str, int]:
    """The port of each service that is reserved."""
    found = ultra("reservations", "--json").json["reservations"]
    return {each["service"]: each["port"] for each in found}


def pool(home: Path, first: int, count: int, *more: str) -> None:
    lines = [f'pool = "{first}-{first + count - 1}"', *more]
    (home / "ultra-ports.toml").write_text("\n".join(lines) + "\n")


def test_what_is_free_is_assigned_as_wished_and_leased() -> None:
    api, dns = free_port(), free_port()
    run = assign(f"api:{api}", f"dns:127.0.0.1:{dns}/udp")
    assert ports(run) == {"API_PORT": api, "DNS_PORT": dns}
    assert run.stdout.splitlines()[1:3] == [
        "API_HOST=127.0.0.1",
        f"API_URL=http://127.0.0.1:{api}",
    ]
    assert run.stderr == ""
    assert leased() == {"api": api, "dns": dns}
    assert assign(f"api:{api}", f"dns:127.0.0.1:{dns}/udp").stdout == run.stdout


def test_a_held_port_is_replaced_and_the_holder_is_named(lab: Lab, home: Path) -> None:
    first = free_range(4)
    server = lab.start("answering", first)
    pool(home, first + 1, 3)
    run = assign(f"web:{first}")
    port = ports(run)["WEB_PORT"]
    assert first < port < first + 4
    assert f"web: {first} is held by " in run.stderr
    assert str(server.pid) in run.stderr
    assert f"→ {port} (pool)" in run.stderr
    again = assign(f"web:{first}")
    assert ports(again) == {"WEB_PORT": port}
    assert f"web: it keeps {port}" in again.stderr
    server.popen.kill()
    server.popen.wait()
    assert ports(assign(f"web:{first}")) == {"WEB_PORT": port}
    back = assign("--reassign", f"web:{first}")
    assert ports(back) == {"WEB_PORT": first}
    assert f"web: {port} → {first} (preferred, and free)" in back.stderr
    assert leased() == {"web": first}


def test_what_was_assigned_is_kept_by_its_name_alone_and_other_files_are_named(home: Path) -> None:
    port, other = free_port(), free_port()
    assert ports(assign(f"api:{port}", "--env-file", ".env")) == {"API_PORT": port}
    kept = assign("api")  # which prefers a standard port
    assert ports(kept) == {"API_PORT": port}
    assert "--reassign" in kept.stderr
    assert ".env" not in kept.stderr
    refused = assign("--strict", f"api:{other}")
    assert (refused.status, leased()) == (1, {"api": port})
    assert f"api: {other} is not what it was assigned, {port}" in refused.stderr

    moved = assign("--reassign", f"api:{other}")

    assert ports(moved) == {"API_PORT": other}
    fresh = f"(ultra-ports assign --env-file {home}/.env)"
    assert f"{home}/.env:3: API_PORT is not {other}, which was assigned {fresh}" in moved.stderr
    assert str(port) in (home / ".env").read_text(), "it was not written"
    assert ".env:" not in assign("api", "--env-file", ".env").stderr
    (home / ".env").write_text(f"API_PORT='{port}' # by hand\nAPI_HOST=db.example\n")
    said = assign("api").stderr
    assert f"{home}/.env:1: API_PORT is not {other}" in said
    assert "API_HOST" not in said


def test_a_checkout_keeps_its_ports_over_night_until_it_is_deleted(
    home: Path, tmp_path: Path
) -> None:
    port = free_port()
    gone = home.parent / "gone"
    gone.mkdir()
    assert ports(assign(f"api:{port}", cwd=gone)) == {"API_PORT": port}
    (lease,) = ultra("reservations", "--json").json["reservations"]
    assert lease["expires_at"] - lease["created_at"] > 7 * 86_400

    _days_later(tmp_path / "state" / "leases.db", 3)
    assert leased() == {"api": port}, "its checkout is there"
    gone.rmdir()
    assert leased() == {}
    assert ports(assign(f"api:{port}")) == {"API_PORT": port}


def _days_later(path: Path, days: int) -> None:
    """As if every lease had been granted some days ago."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        seconds = days * 86_400
        database.execute(
            "UPDATE lease SET created_at = created_at - ?, expires_at = expires_at - ?, "
            "ends = ends - ?",
            (seconds, seconds, seconds),
        )


def test_strict_fails_and_says_who_is_in_the_way(lab: Lab, home: Path) -> None:
    held, free, reserved = free_port(), free_port(), free_port()
    server = lab.start("answering", held)
    other = home.parent / "other"
    other.mkdir()
    assert ports(assign(f"x:{reserved}", cwd=other)) == {"X_PORT": reserved}
    run = assign("--strict", f"api:{free}", f"web:{held}", f"dns:{reserved}")
    assert run.status == 1
    assert run.stdout == ""
    assert f"web: {held} is held by" in run.stderr
    assert str(server.pid) in run.stderr
    assert f"dns: {reserved} is reserved for x of project other ({other})" in run.stderr
    assert leased() == {"x": reserved}


@pytest.mark.engine
def test_a_container_in_the_way_is_named(engine: Engine) -> None:
    port = free_port()
    container = engine.publish(f"{port}:80")
    container.wait_for(port)
    run = assign("--strict", f"api:{port}")
    assert run.status == 1
    assert f"api: {port} is held by container {container.name}; " in run.stderr
    assert run.stderr.endswith(" is free\n")
    assert container.serves(port)


def test_the_projects_own_server_does_not_push_it_out(lab: Lab, home: Path) -> None:
    port = free_port()
    before = assign(f"api:{port}")
    serve = (sys.executable, "-m", "http.server", str(port))
    lab.command(*serve, cwd=home)
    wait_until(lambda: ultra("who", str(port), "--json").json["ports"][0]["holders"], "it listens")
    run = assign(f"api:{port}")
    assert run.stdout == before.stdout
    assert run.stderr == ""
    assert ultra("assign", "--strict", f"api:{port}").status == 0


def test_a_strangers_server_on_a_reserved_port_does(lab: Lab, home: Path) -> None:
    port, elsewhere = free_range(2), home.parent / "elsewhere"
    pool(home, port + 1, 1)
    elsewhere.mkdir()
    assert ports(assign(f"api:{port}")) == {"API_PORT": port}
    server = lab.command(sys.executable, "-m", "http.server", str(port), cwd=elsewhere)
    wait_until(lambda: ultra("who", str(port), "--json").json["ports"][0]["holders"], "it listens")
    run = assign(f"api:{port}")
    assert ports(run)["API_PORT"] != port
    assert f"api: {port} is held by python" in run.stderr
    assert str(server.pid) in run.stderr


def test_who_cannot_be_told_from_the_projects_own_is_pointed_out(lab: Lab) -> None:
    port = free_port()
    assert ports(assign(f"api:{port}")) == {"API_PORT": port}
    server = lab.start("answering", port)  # works in a directory above the project
    run = assign(f"api:{port}")
    assert ports(run) == {"API_PORT": port}
    assert "whether that is its own server cannot be told" in run.stderr
    assert str(server.pid) in run.stderr


def test_a_range_gives_its_first_free_port_and_is_kept(lab: Lab) -> None:
    first = free_range(3)
    server = lab.start("answering", first)
    run = assign(f"api:{first}-{first + 2}")
    assert ports(run) == {"API_PORT": first + 1}
    server.popen.kill()
    server.popen.wait()
    assert ports(assign(f"api:{first}-{first + 2}")) == {"API_PORT": first + 1}


def test_the_project_file_names_the_services_and_the_pool(lab: Lab, home: Path) -> None:
    first = free_range(4)
    lab.start("answering", first)
    pool(home, first + 2, 2, "[services]", f"api = {first}", f"web = {first + 1}")
    (home / "sub").mkdir()
    run = assign(cwd=home / "sub")
    found = ports(run)
    assert found["WEB_PORT"] == first + 1
    assert found["API_PORT"] in {first + 2, first + 3}
    alone = assign("api")
    assert ports(alone)["API_PORT"] == found["API_PORT"]


def test_a_fallback_leaves_the_projects_other_services_their_ports(lab: Lab, home: Path) -> None:
    first = free_range(3)
    lab.start("answering", first)
    pool(home, first + 1, 2, "[services]", f"api = {first}", f"web = {first + 1}")
    assert ports(assign("api")) == {"API_PORT": first + 2}


def test_ports_can_be_exchanged() -> None:
    one, other = free_port(), free_port()
    assign(f"api:{one}", f"web:{other}")
    assert ports(assign(f"api:{other}", f"web:{one}")) == {"API_PORT": one, "WEB_PORT": other}
    run = assign("--reassign", f"api:{other}", f"web:{one}")
    assert ports(run) == {"API_PORT": other, "WEB_PORT": one}
    assert leased() == {"api": other, "web": one}


def test_a_dry_run_leaves_nothing(home: Path) -> None:
    port = free_port()
    run = assign("-n", f"api:{port}", "--env-file", ".env")
    assert ports(run) == {"API_PORT": port}
    assert ".env would get API_PORT, API_HOST, API_URL" in run.stderr
    assert leased() == {}
    assert list(home.iterdir()) == []


def test_without_a_store_ports_are_assigned_and_said_not_to_be_kept() -> None:
    port = free_port()
    run = assign(f"api:{port}", env={"ULTRA_PORTS_STATE": "/dev/null/nowhere"})
    assert ports(run) == {"API_PORT": port}
    assert "/dev/null/nowhere" in run.stderr
    assert "nothing keeps these ports" in run.stderr


def test_the_json_says_it_all() -> None:
    port = free_port()
    found = assign("--format", "json", "--ttl", "10m", f"redis:{port}").json
    assert found["schema"] == "ultra-ports.assignment/1"
    assert (found["command"], found["exit_status"], found["project"]) == ("assign", 0, "shop")
    (service,) = found["services"]
    assert service["url"] == f"redis://127.0.0.1:{port}"
    assert (service["source"], service["label"]) == ("preferred", f"{port}/tcp")
    (lease,) = ultra("reservations", "--json").json["reservations"]
    assert lease["expires_at"] == pytest.approx(lease["created_at"] + 600)
    assert service["expires_at"] == pytest.approx(lease["expires_at"])


NONSENSE = [
    (["8085"], "name of a service"),
    (["api:"], "api:"),
    (["api:0"], "0 is not a port"),
    (["api:8085:x"], "api:8085:x"),
    (["api:8085,8086/udp"], "one transport"),
    (["api:8085", "api:8086"], "twice"),
    (["a-b:8085", "a_b:8086"], "A_B_PORT"),
    (["nobody"], "nobody"),
    ([], "no project file"),
    (["api:8085", "--ttl", "soon"], "soon"),
    (["api:8085", "--rewrite"], "--rewrite"),
    (["api:8085", "-f", "x.yaml"], "--format compose"),
    (["api:192.0.2.1:8085"], "192.0.2.1"),
    (["api:8085", "--env-file", "none/.env"], "none/.env"),
    (["api:8085", "--env-file", "."], "directory"),
]


def test_bad_input_is_one_line_and_nothing_happens(home: Path) -> None:
    refused(NONSENSE, "assign")
    assert leased() == {}
    assert list(home.iterdir()) == []


# --- many at once, and side by side ---------------------------------------------------------------


def git(*arguments: str, cwd: Path) -> None:
    identity = ("-c", "user.name=lab", "-c", "user.email=lab@example.invalid")
    tool = shutil.which("git") or unavailable("git is missing")
    subprocess.run([tool, *identity, *arguments], cwd=cwd, check=True, capture_output=True)


def test_two_worktrees_get_different_lasting_ports(home: Path) -> None:
    first = free_range(8)
    wished = (f"api:{first}", f"web:{first + 1}")
    git("init", "-q", cwd=home)
    pool(home, first + 2, 6, 'project = "shop"')
    git("add", ".", cwd=home)
    git("commit", "-qm", "first", cwd=home)
    tree = home.parent / "feature"
    git("worktree", "add", "-q", str(tree), cwd=home)
    here, there = ports(assign(*wished)), ports(assign(*wished, cwd=tree))
    assert here == {"API_PORT": first, "WEB_PORT": first + 1}
    assert set(here.values()).isdisjoint(there.values())
    assert ports(assign(*wished)) == here
    assert ports(assign(*wished, cwd=tree)) == there
    # When all leases are over, whoever comes first does not take what the other one had.
    for folder in (home, tree):
        run = ultra("release", "--all", prefix=("env", "-C", str(folder)))
        assert run.status == 0, run.stderr
    assert leased() == {}
    late = assign(*wished, cwd=tree)
    assert ports(late) == there
    assert f"api: {first} is this project's in {home}" in late.stderr
    assert ports(assign(*wished)) == here


def test_what_a_removed_worktree_had_is_to_be_had_again(home: Path) -> None:
    port, other = free_port(), home.parent / "other"
    other.mkdir()
    (other / "ultra-ports.toml").write_text('project = "shop"\n')
    assert ports(assign(f"api:{port}", cwd=other)) == {"API_PORT": port}
    ultra("release", "--all", prefix=("env", "-C", str(other)))
    shutil.rmtree(other)
    assert ports(assign(f"api:{port}")) == {"API_PORT": port}


@pytest.mark.slow
def test_sixteen_projects_at_once_get_ports_of_their_own(home: Path) -> None:
    first = free_range(100)
    folders = [home.parent / f"p{number}" for number in range(16)]
    for number, folder in enumerate(folders):
        folder.mkdir()  # half of them are checkouts of one project
        (folder / "ultra-ports.toml").write_text(
            f'project = "{"same" if number % 2 else number}"\n'
        )
    wished = (f"api:{first}", f"web:{first + 1}", f"dns:{first + 2}")
    with ThreadPoolExecutor(16) as many:
        runs = list(many.map(lambda folder: assign(*wished, cwd=folder), folders))
    found = [port for run in runs for port in ports(run).values()]
    assert len(found) == len(set(found)) == 48
    assert {first, first + 1, first + 2} <= set(found)
    everywhere = ultra("reservations", "--json").json["reservations"]
    assert sorted(each["port"] for each in everywhere) == sorted(found)
    with ThreadPoolExecutor(16) as many:
        again = list(many.map(lambda folder: assign(*wished, cwd=folder), folders))
    assert [ports(run) for run in again] == [ports(run) for run in runs]


@pytest.mark.slow
def test_one_project_many_times_at_once_gets_one_set() -> None:
    first = free_range(2)
    wished = (f"api:{first}", f"web:{first + 1}")
    with ThreadPoolExecutor(8) as many:
        runs = list(many.map(lambda _: assign(*wished), range(8)))
    for run in runs:
        assert ports(run) == {"API_PORT": first, "WEB_PORT": first + 1}
    assert json.dumps(leased(), sort_keys=True) == json.dumps({"api": first, "web": first + 1})
