"""`docker ports` under every Docker CLI of this machine, and the hook that newer ones call."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import contracts
from tests.lab.cli import COMMAND, ultra
from tests.lab.ports import free_port
from tests.lab.processes import answered_by, unavailable, wait_until
from tests.lab.supervisord import program, serving

if TYPE_CHECKING:
    from tests.lab.engine import Engine
    from tests.lab.processes import Lab
    from tests.lab.supervisord import Supervisor

PLUGIN = str(Path(COMMAND).with_name("docker-ports"))
FIRST_WITH_HOOKS = 27  # 26.1 has them, for plug-ins of Docker's own packages only
NOBODY = 65534


def clients() -> list[str]:
    """Every `docker` in the search path: machines have more than one now and then."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    found = (shutil.which("docker", path=folder) for folder in folders)
    return list({os.path.realpath(each): each for each in found if each}.values())


@pytest.fixture(params=clients() or [""])
def docker(request: pytest.FixtureRequest) -> str:
    """A Docker CLI."""
    return str(request.param) or unavailable("the docker command is missing")


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Docker's folder of this test alone."""
    folder = tmp_path / "docker"
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    monkeypatch.delenv("DOCKER_CLI_HOOKS", raising=False)
    return folder


def run(*argv: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def on_a_terminal(*argv: str) -> str:
    """What a person sees: the CLI calls no hook elsewhere."""
    return run("script", "-qec", shlex.join(argv), "/dev/null").stdout


def hook(call: dict[str, Any], cwd: Path | None = None) -> str:
    """What the plug-in answers to the CLI's question; empty where it is silent."""
    done = run(PLUGIN, "ports", "docker-cli-plugin-hooks", json.dumps(call), cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")
    if not done.stdout:
        return ""
    answer = json.loads(done.stdout)
    assert answer["Type"] == 0
    return str(answer["Template"])


def test_docker_lists_and_runs_it(docker: str, lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port)
    assert ultra("docker-plugin", "install").status == 0

    assert re.search(r"^ +ports\* ", run(docker, "--help").stdout, re.MULTILINE)
    assert "Free ports:" in run(docker, "help", "ports").stdout
    assert "Free ports:" in run(docker, "ports", "--help").stdout
    who = run(docker, "ports", str(port))
    assert (who.returncode, who.stdout) == (0, ultra("who", str(port)).stdout)
    assert run(docker, "ports", "resolve", "0").returncode == 2
    assert server.alive

    freed = run(docker, "ports", "resolve", "--grace", "2", "--settle", "0.3", str(port))
    assert freed.returncode == 0
    assert not server.alive


def test_options_of_docker_reach_it(docker: str) -> None:
    ultra("docker-plugin", "install")
    endpoint = "unix:///nonexistent/docker.sock"

    done = run(docker, "--host", endpoint, "ports", "--complete", "--json", str(free_port()))

    assert endpoint in {each["endpoint"] for each in contracts.read(done.stdout)["engines"]}


def test_a_failed_run_names_the_holder(docker: str, engine: Engine, lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port, "--name", "a{{.b}} {{{c")
    assert ultra("docker-plugin", "install", "--hooks").status == 0

    argv = (docker, "run", "--rm", "-p", f"{port}:80", engine.image, "sh", "-c", "true")
    failed = run(*argv)
    assert failed.returncode == 125
    told = hook({"RootCmd": "run", "Flags": {"p": ""}, "CommandError": failed.stderr})

    assert f"a{{{{.b}}}} {{{{{{c {server.pid}\n" in told.replace('{{"{{"}}', "{{")
    assert "{{" not in told.replace('{{"{{"}}', "")
    assert told.endswith(f"\n  docker ports resolve {port}")
    version = run(docker, "version", "--format", "{{.Client.Version}}").stdout
    shown = on_a_terminal(*argv)
    assert ("What's next:" in shown) == (int(version.split(".")[0]) >= FIRST_WITH_HOOKS)
    if "What's next:" in shown:
        assert f"a{{{{.b}}}} {{{{{{c {server.pid}\n" in shown
        assert f"docker ports resolve {port}\n" in shown
    assert server.alive


def test_a_container_that_has_the_port(engine: Engine, docker: str) -> None:
    port = free_port()
    container = engine.publish(f"{port}:80")

    failed = run(docker, "run", "--rm", "-p", f"{port}:80", engine.image, "sh", "-c", "true")
    told = hook({"RootCmd": "run", "CommandError": failed.stderr})

    assert told.count(f"container {container.name}") == 1, "once, for IPv4 and IPv6"
    assert told.endswith(f"\n  docker ports resolve {port}")
    assert container.state == "running"


@pytest.mark.supervisord
def test_a_managed_holder_gets_its_managers_command(supervisor: Supervisor) -> None:
    port = free_port()
    supervisor.start(program("web", serving(port), "true"))
    wait_until(lambda: answered_by(port), f"a server answers on {port}")

    told = hook({"CommandError": f"listen tcp4 0.0.0.0:{port}: bind: address already in use"})

    assert told.endswith(f"\n  supervisorctl -c {supervisor.config} stop web:web")
    assert answered_by(port)


def test_a_port_that_is_free_by_now() -> None:
    port = free_port()
    told = hook({"CommandError": f"listen udp4 127.0.0.1:{port}: bind: address already in use"})
    assert told == f"127.0.0.1:{port}/udp is free by now: the same command may do"


@pytest.mark.parametrize(
    "call",
    [
        {"RootCmd": "run", "Flags": {}, "CommandError": ""},
        {"RootCmd": "run", "Flags": {}, "CommandError": "pull access denied for nothing"},
        {"RootCmd": "start", "CommandError": "failed to start containers: web"},
        {"RootCmd": "compose", "Flags": {"file": ""}, "CommandError": "exit status 1"},
        {"RootCmd": 1},
    ],
)
def test_it_is_silent_elsewhere_and_loads_nothing(call: dict[str, Any]) -> None:
    assert hook(call) == ""
    argv = ("-X", "importtime", PLUGIN, "ports", "docker-cli-plugin-hooks", json.dumps(call))
    loaded = run(sys.executable, *argv).stderr
    names = {line.rpartition("|")[2].strip() for line in loaded.splitlines()}
    assert "resolver.cli.docker_ports" in names
    if call["RootCmd"] != "compose":
        assert not names & {"typer", "psutil", "docker", "rich", "resolver.api"}


def test_compose_that_only_says_that_it_failed(lab: Lab, tmp_path: Path, docker: str) -> None:
    assert docker
    port = free_port()
    lab.start("answering", port)
    service = {"image": "nothing", "ports": [f"{port}:80"]}
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": {"web": service}}))
    call = {"RootCmd": "compose", "Flags": {"d": ""}, "CommandError": "exit status 1"}

    told = hook(call, cwd=tmp_path)

    assert f"{port}/tcp for web is held" in told
    assert told.endswith("\n  docker ports resolve --compose")


# --- install, remove, status ----------------------------------------------------------------------


def test_the_configuration_is_kept_as_it_is(config: Path) -> None:
    (config / "elsewhere").mkdir(parents=True)
    real, file = config / "elsewhere" / "config.json", config / "config.json"
    before = '{\n\t"auths": {"é": {}},\n\t"plugins": {\n\t\t"scout": {"hooks": "run"}\n\t}\n}'
    real.write_text(before.replace('{"é": {}}', '{\n\t\t"é": {}\n\t}'))
    real.write_text(json.dumps(json.loads(before), indent="\t", ensure_ascii=False))
    before = real.read_text()
    real.chmod(0o640)
    file.symlink_to(real)

    plain = ultra("docker-plugin", "install")
    assert real.read_text() == before
    assert "does not say" in plain.stderr
    assert ultra("docker-plugin", "install", "--hooks").status == 0

    added = json.loads(real.read_text())
    assert list(added) == ["auths", "plugins", "features"]
    assert added["features"] == {"hooks": "true"}
    assert added["plugins"]["scout"] == {"hooks": "run"}
    assert added["plugins"]["ports"]["hooks"] == "run"
    assert (file.is_symlink(), stat.S_IMODE(real.stat().st_mode)) == (True, 0o640)
    assert ultra("docker-plugin", "status").status == 0
    assert ultra("docker-plugin", "remove").status == 0
    assert real.read_text() == before
    assert not (config / "cli-plugins" / "docker-ports").is_symlink()
    assert ultra("docker-plugin", "status").status == 1


def test_what_is_there_as_json(config: Path) -> None:
    plugin = config / "cli-plugins" / "docker-ports"
    nothing = ultra("docker-plugin", "status", "--json")
    assert (nothing.status, nothing.json["exit_status"], nothing.json["target"]) == (1, 1, None)
    assert nothing.json["plugin"] == str(plugin)

    done = ultra("docker-plugin", "install", "--hooks", "--json")

    assert (done.status, done.stderr) == (0, "")
    assert (done.json["action"], done.json["target"]) == ("install", str(plugin.readlink()))
    assert done.json["hooks"]["error-hooks"] == "run,compose,start"
    assert (done.json["runs"], done.json["switched_off"]) == (True, False)
    (config / "config.json").write_text('{"features": {"hooks": "false"}}')
    plugin.unlink()
    plugin.symlink_to(config / "gone" / "docker-ports")
    broken = ultra("docker-plugin", "status", "--json")
    assert (broken.status, broken.json["runs"]) == (1, False)
    assert (broken.json["hooks"], broken.json["switched_off"]) == ({}, True)
    assert ultra("docker-plugin", "remove", "--json").json["target"] is None


def test_a_new_configuration_is_for_nobody_else(config: Path) -> None:
    assert ultra("docker-plugin", "remove").status == 0
    assert not config.exists()

    assert ultra("docker-plugin", "install", "--hooks").status == 0

    assert stat.S_IMODE((config / "config.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[]",
        '{"plugins": []}',
        '{"plugins": {"ports": 1}}',
        '{"plugins": {"scout": {"hooks": true}}}',
        '{"features": ["hooks"]}',
    ],
)
def test_a_configuration_that_makes_no_sense_is_left_alone(config: Path, text: str) -> None:
    config.mkdir()
    (config / "config.json").write_text(text)

    done = ultra("docker-plugin", "install", "--hooks")

    assert done.status == 2
    assert "left as it is" in done.stderr
    assert (config / "config.json").read_text() == text
    assert [each.name for each in config.iterdir()] == ["config.json"]


def test_somebody_elses_plugin_is_left_alone(config: Path) -> None:
    (config / "cli-plugins").mkdir(parents=True)
    other = config / "cli-plugins" / "docker-ports"
    other.write_text("#!/bin/sh\n")

    for action in ("install", "remove"):
        done = ultra("docker-plugin", action)
        assert (done.status, "no link of ours" in done.stderr) == (2, True)
    assert other.read_text() == "#!/bin/sh\n"


@pytest.mark.root
def test_root_follows_no_strangers_link(
    as_nobody: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aimed = tmp_path / "root.json"
    aimed.write_text("{}")
    aimed.chmod(0o644)
    with tempfile.TemporaryDirectory() as public:
        Path(public).chmod(0o1777)
        home = f"{public}/home"
        link = f"ln -s {aimed} {home}/config.json && ln -s {tmp_path} {home}/cli-plugins"
        subprocess.run([*as_nobody, "sh", "-c", f"mkdir {home} && {link}"], check=True)
        monkeypatch.setenv("DOCKER_CONFIG", home)

        for planted in ("config.json", "cli-plugins"):
            refused = ultra("docker-plugin", "install", "--hooks")
            assert (refused.status, "cannot" in refused.stderr) == (2, True)
            assert not (tmp_path / "docker-ports").is_symlink()
            assert aimed.read_text() == "{}"
            subprocess.run([*as_nobody, "rm", f"{home}/{planted}"], check=True)
        assert ultra("docker-plugin", "install", "--hooks").status == 0
        assert {each.lstat().st_uid for each in Path(home).rglob("*")} == {NOBODY}
