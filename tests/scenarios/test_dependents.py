"""Those who depend on assigned ports are told: files, shells, compose and scripts."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from resolver.project.variables import parse
from tests.lab.cli import Run, ultra
from tests.lab.compose import project as compose_project
from tests.lab.compose import require_plugin
from tests.lab.engine import named_by
from tests.lab.ports import free_port, free_range
from tests.lab.processes import unavailable, wait_until

if TYPE_CHECKING:
    from tests.lab.engine import Engine
    from tests.lab.processes import Lab


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project and a store of the test's own; returns the project's directory."""
    monkeypatch.setenv("ULTRA_PORTS_STATE", str(tmp_path / "state"))
    for service in ("API", "WEB", "REDIS"):
        for kind in ("PORT", "HOST", "URL"):
            monkeypatch.delenv(f"{service}_{kind}", raising=False)
    folder = tmp_path / "work" / "shop"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def block(port: int, service: str = "API") -> str:
    return (
        "# >>> ultra-ports >>>\n"
        "# written by `ultra-ports assign`; changes in here do not last\n"
        f"{service}_PORT={port}\n"
        f"{service}_HOST=127.0.0.1\n"
        f"{service}_URL=http://127.0.0.1:{port}\n"
        "# <<< ultra-ports <<<"
    )


def moved(lab: Lab, *arguments: str) -> tuple[int, int, Run]:
    """Assigns to `api` a port that is held; returns that one, the one it got, and the run."""
    held = free_range(3)
    lab.start("answering", held)
    with Path("ultra-ports.toml").open("a", encoding="utf-8") as file:
        file.write(f'pool = "{held + 1}-{held + 2}"\n')
    before = ultra("assign", "-q", "--format", "json", f"api:{held}").json
    port = before["services"][0]["port"]
    return held, port, ultra("assign", f"api:{held}", *arguments)


# --- environment files ----------------------------------------------------------------------------


def test_a_file_gets_a_block_and_keeps_the_rest_to_the_byte(home: Path) -> None:
    port, file = free_port(), home / ".env"
    raw = b"\xef\xbb\xbf# caf\xe9 \xff\r\nSECRET='x y'\r\nLAST=1"
    (home / "real").write_bytes(raw)
    (home / "real").chmod(0o640)
    file.symlink_to("real")
    run = ultra("assign", f"api:{port}", "--env-file", ".env")
    assert run.status == 0, run.stderr
    written = block(port).replace("\n", "\r\n").encode()
    assert file.is_symlink()
    assert file.read_bytes() == raw + b"\r\n" + written + b"\r\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert ultra("assign", f"api:{port}", "--env-file", ".env").status == 0
    assert file.read_bytes() == raw + b"\r\n" + written + b"\r\n"
    assert sorted(path.name for path in home.iterdir()) == [".env", "real"]


def test_what_an_earlier_call_wrote_is_no_wish(lab: Lab, home: Path) -> None:
    first = free_range(2)
    server = lab.start("answering", first)
    toml = f'pool = "{first + 1}"\n[services]\napi = {first}\n'
    (home / "ultra-ports.toml").write_text(toml)
    assert ultra("assign", "--env-file", ".env").status == 0
    assert (home / ".env").read_text() == block(first + 1) + "\n"
    assert ultra("env", "api").stdout == f"{first + 1}\n"
    server.popen.kill()
    server.popen.wait()
    assert ultra("assign", "--env-file", ".env").status == 0  # what it has, it keeps
    assert (home / ".env").read_text() == block(first + 1) + "\n"
    assert ultra("assign", "--reassign", "--env-file", ".env").status == 0
    assert (home / ".env").read_text() == block(first) + "\n"
    (home / ".env").write_text(f"API_PORT={first + 1}\n{block(first)}\n")
    run = ultra("assign", "--env-file", ".env")  # what is said beside the block is named
    assert f"API_PORT={first}\n" in run.stdout
    assert f"says {first + 1}, and api has {first} now" in run.stderr


def test_services_of_other_calls_stay_in_the_block(home: Path) -> None:
    api, web = free_port(), free_port()
    ultra("assign", f"api:{api}", "--env-file", ".env")
    ultra("assign", f"web:{web}", "--env-file", ".env")
    found = parse((home / ".env").read_text(), {})
    assert (found["API_PORT"], found["WEB_PORT"]) == (str(api), str(web))
    (home / "ultra-ports.toml").write_text(f"[services]\nweb = {web}\n")
    ultra("assign", "--env-file", ".env")  # all services of the project: the others are gone
    assert list(parse((home / ".env").read_text(), {})) == [
        "WEB_PORT",
        "WEB_HOST",
        "WEB_URL",
    ]


def test_a_damaged_block_is_refused_before_anything_is_done(home: Path) -> None:
    file = home / "local.env"
    file.write_text("# >>> ultra-ports >>>\nAPI_PORT=1\n")
    run = ultra("assign", f"api:{free_port()}", "--env-file", "local.env")
    assert run.status == 2
    assert run.stdout == ""
    assert "local.env: the block of ultra-ports is damaged" in run.stderr
    assert file.read_text() == "# >>> ultra-ports >>>\nAPI_PORT=1\n"
    assert ultra("reservations", "--json").json["reservations"] == []


def test_values_with_the_old_port_are_pointed_out_and_no_secret_is_shown(
    lab: Lab, home: Path
) -> None:
    held, port, _ = moved(lab)
    text = (
        f"ORIGINS=http://localhost:{held},http://127.0.0.1:{held}\n"
        f"DATABASE_URL=postgres://u:hush-hush@localhost:{held}/db\n"
        f"REMOTE=https://u:hush-hush@shop.example:{held}/\n"
        f"OTHER=1{held}\n"
    )
    (home / "my.env").write_text(text)
    run = ultra("assign", f"api:{held}", "--env-file", "my.env")
    assert run.status == 0
    for line, key in ((1, "ORIGINS"), (2, "DATABASE_URL"), (3, "REMOTE")):
        assert f"my.env:{line}: {key} says {held}, and api has {port} now" in run.stderr
    assert "my.env:4" not in run.stderr
    assert "hush" not in run.stdout + run.stderr
    assert (home / "my.env").read_text() == text + block(port) + "\n"


def test_who_else_sets_the_variable_is_pointed_out(home: Path) -> None:
    port = free_port()
    (home / "my.env").write_text(f"API_PORT=1\n{block(2)}\nAPI_URL=http://elsewhere\n")
    env = {"API_HOST": "10.1.2.3"}
    run = ultra("assign", f"api:{port}", "--env-file", "my.env", env=env)
    assert "my.env:1: API_PORT is set here too, above the block, which wins" in run.stderr
    assert "my.env:8: API_URL is set here too, below the block, and wins" in run.stderr
    assert "API_HOST is something else in the environment" in run.stderr
    assert "10.1.2.3" not in run.stderr


@pytest.mark.slow
def test_many_writers_of_one_file_lose_nothing(home: Path) -> None:
    first = free_range(12)
    (home / "my.env").write_text("KEEP=1\n")

    def one(number: int) -> Run:
        return ultra("assign", f"s{number}:{first + number}", "--env-file", "my.env")

    with ThreadPoolExecutor(12) as many:
        runs = list(many.map(one, range(12)))
    assert [(run.status, run.stderr) for run in runs] == [(0, "")] * 12
    found = parse((home / "my.env").read_text(), {})
    assert found["KEEP"] == "1"
    assert {found[f"S{number}_PORT"] for number in range(12)} == {
        str(first + number) for number in range(12)
    }
    assert [path.name for path in home.iterdir()] == ["my.env"]


# --- shells and scripts ---------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["sh", "bash", "zsh"])
def test_a_shell_takes_the_variables(shell: str) -> None:
    program = shutil.which(shell) or unavailable(f"{shell} is missing")
    port = free_port()
    text = ultra("assign", "--format", "shell", f"api:[::1]:{port}").stdout
    show = 'eval "$1"; exec env'
    shown = subprocess.run([program, "-c", show, "sh", text], capture_output=True, check=True)
    assert f"API_URL=http://[::1]:{port}\n".encode() in shown.stdout
    assert f"API_PORT={port}\n".encode() in shown.stdout


def test_env_prints_one_value(lab: Lab, home: Path) -> None:
    standard = ultra("env", "api")
    assert (standard.status, standard.stdout) == (0, "8085\n")
    assert ultra("env", "REDIS_URL").stdout == "redis://127.0.0.1:6379\n"
    assert not (home.parent.parent / "state").exists()  # nothing was made for it
    _, port, _ = moved(lab)
    assert ultra("env", "api").stdout == f"{port}\n"
    assert ultra("env", "API_PORT").stdout == f"{port}\n"
    assert ultra("env", "API_HOST").stdout == "127.0.0.1\n"
    assert ultra("env", "API_URL").stdout == f"http://127.0.0.1:{port}\n"
    ultra("assign", "-q", f"extra:{free_port()}", "--project", "other")
    assert ultra("env", "extra", "--project", "other").status == 0
    for unknown in ("extra", "NOBODY_PORT", "api ", "8085"):
        run = ultra("env", unknown)
        assert (run.status, run.stdout) == (2, "")
        assert "neither a service nor a variable" in run.stderr
    ultra("release", "api")
    assert ultra("env", "api").status == 2


# --- compose --------------------------------------------------------------------------------------


def described(engine: Engine, *words: str) -> Any:  # noqa: ANN401 - compose's own shape
    """What compose makes of the files; skips where there is no compose."""
    require_plugin()
    return json.loads(engine("compose", *words, "config", "--format", "json"))


@pytest.mark.engine
def test_the_override_file_replaces_the_port_and_keeps_the_others(
    engine: Engine, lab: Lab, home: Path
) -> None:
    held = free_port()
    services = {
        "api": {
            "image": engine.image,
            "ports": [f"{held}:80", "127.0.0.1:7000-7001:81", "82", "7002:53/udp", "[::1]:7003:83"],
        },
        "db": {"image": engine.image, "ports": ["7005:5432"]},
    }
    (home / "compose.yaml").write_text(json.dumps({"services": services}))
    lab.start("answering", held)
    run = ultra("assign", f"api:{held}", "--format", "compose", "-f", "compose.yaml")
    assert run.status == 0, run.stderr
    (home / "ports.yaml").write_text(run.stdout)
    port = ultra("env", "api").stdout.strip()
    before = described(engine, "-f", str(home / "compose.yaml"))
    after = described(engine, "-f", str(home / "compose.yaml"), "-f", str(home / "ports.yaml"))

    def entries(made: Any, service: str) -> set[tuple[str | None, ...]]:  # noqa: ANN401
        return {
            (str(each["target"]), each.get("published"), each.get("host_ip"), each["protocol"])
            for each in made["services"][service]["ports"]
        }

    assert entries(after, "db") == entries(before, "db")
    old, new = entries(before, "api"), entries(after, "api")
    assert old - new == {("80", str(held), None, "tcp")}
    assert new - old == {("80", port, None, "tcp")}


@pytest.mark.engine
@pytest.mark.slow
def test_a_stack_comes_up_on_its_assigned_port(engine: Engine, lab: Lab, home: Path) -> None:
    held = free_range(3)
    server = lab.start("answering", held)
    (home / "ultra-ports.toml").write_text(f'pool = "{held + 1}-{held + 2}"\n')
    folder = home / "stack"
    folder.mkdir()
    with compose_project(engine, folder, {"api": held}) as stack:
        file = str(folder / "compose.json")
        run = ultra("assign", f"api:{held}", "--format", "compose", "-f", file)
        assert run.status == 0, run.stderr
        (folder / "ports.yaml").write_text(run.stdout)
        port = int(ultra("env", "api").stdout)
        assert port != held
        files = ("-f", file, "-f", str(folder / "ports.yaml"))
        engine("compose", "-p", stack.name, *files, "up", "-d")
        wait_until(lambda: named_by(port) == stack.container("api").name, "it answers there")
        assert server.alive
        again = ultra("assign", f"api:{held}", "--format", "compose", "-f", file)
        assert again.stdout == run.stdout


@pytest.mark.engine
def test_a_service_that_compose_does_not_publish_is_left_out(engine: Engine, home: Path) -> None:
    one, other = free_port(), free_port()
    services = {"front": {"image": engine.image, "ports": [f"{one}:80"]}}
    (home / "compose.yaml").write_text(json.dumps({"services": services}))
    described(engine, "-f", "compose.yaml")
    run = ultra("assign", f"web:{one}", f"redis:{other}", "--format", "compose")
    assert run.status == 0, run.stderr
    assert '"front":' in run.stdout
    assert "redis is left out: no compose service publishes" in run.stderr
    run = ultra("assign", f"front:{one}", f"web:{one}", "--format", "compose", "--project", "p3")
    assert "web is left out: what compose publishes is front's" in run.stderr
    run = ultra("assign", f"redis:{other}", "--format", "compose", "--project", "p2")
    assert run.status == 2
    assert "publishes none of these" in run.stderr
    assert ultra("env", "redis", "--project", "p2").stdout == "6379\n"
