"""Completion, as the shell of a user does it: typer's own, for a group that loads one command."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import COMMAND, ultra
from tests.lab.engine import counting_socket
from tests.lab.ports import free_port
from tests.lab.processes import unavailable
from tests.lab.shells import BIN

if TYPE_CHECKING:
    from tests.lab.cli import Run
    from tests.lab.processes import Lab

BASH = shutil.which("bash") or "bash"
# typer asks what shell its parent is
IN_BASH = (BASH, "--norc", "-c", '"$@"; exit $?', "bash")
COMPLETES = """
PATH="$1:$PATH"
source "$2" || exit
shift 2
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_ultra_ports_completion ultra-ports
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written into the home of whoever runs the tests."""
    if not Path(BASH).is_absolute():
        unavailable("bash is missing")
    monkeypatch.setenv("HOME", str(tmp_path))


def completed(script: Path, *words: str) -> list[str]:
    """What bash would offer for the last of the words."""
    done = subprocess.run(
        [BASH, "--norc", "-c", COMPLETES, "bash", Path(COMMAND).parent, script, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


def shown() -> Run:
    """The script that is to be sourced."""
    return ultra("--show-completion", prefix=IN_BASH)


def test_the_script_completes_commands_and_their_options(tmp_path: Path) -> None:
    script = tmp_path / "completion.sh"
    run = shown()
    assert (run.status, run.stderr) == (0, "")
    script.write_text(run.stdout)

    assert completed(script, "ultra-ports", "res") == ["resolve", "reserve", "reservations"]
    assert completed(script, "ultra-ports", "resolve", "--set") == ["--settle"]
    assert completed(script, "ultra-ports", "shell-init", "--") == ["--help"]
    assert completed(script, "ultra-ports", "--") == ["--version", "--help"]
    assert completed(script, "ultra-ports", "nonsense", "") != []


def test_it_is_installed_in_the_home(tmp_path: Path) -> None:
    run = ultra("--install-completion", prefix=IN_BASH)

    assert (run.status, run.stderr) == (0, "")
    assert sorted(each.name for each in tmp_path.iterdir()) == [".bash_completions", ".bashrc"]
    assert completed(tmp_path / ".bashrc", "ultra-ports", "wat") == ["watch"]


def test_the_help_stays_short() -> None:
    assert "completion" not in ultra("-h").stdout


# --- what is there: services, held ports, leases --------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The ports of a project's services; the working directory is the project's."""
    found = {"frontend": free_port(), "api": free_port()}
    lines = "".join(f"{name} = {port}\n" for name, port in found.items())
    (tmp_path / "ultra-ports.toml").write_text(f"[services]\n{lines}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    return found


def script_of(shell: str, folder: Path) -> Path:
    """The script that a shell is to source."""
    script = folder / f"completion.{shell}"
    script.write_text(ultra(env={"_ULTRA_PORTS_COMPLETE": f"source_{shell}"}).stdout)
    return script


def offered(*words: str) -> list[str]:
    """What fish is told, which has the plainest form."""
    run = ultra(
        env={
            "_ULTRA_PORTS_COMPLETE": "complete_fish",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            "_TYPER_COMPLETE_ARGS": " ".join(("ultra-ports", *words)),
        }
    )
    assert run.stderr == ""
    return [line.partition("\t")[0] for line in run.stdout.splitlines() if line]


def test_services_and_held_ports(project: dict[str, int], lab: Lab) -> None:
    port = free_port()
    lab.start("answering", port)

    for command in ("resolve", "who", "health", "wait", "watch", "serve"):
        assert {*project} <= {*offered(command, "")}
        assert str(port) in offered(command, str(port)[:2])
    assert offered("resolve", "fro") == ["frontend"]
    assert offered("resolve", "api,fro") == ["api,frontend"]
    for command in ("env", "assign", "reserve", "run --port"):
        assert offered(command, "fro") == ["frontend"]


def test_leases_are_offered_to_whom_releases_them(project: dict[str, int], state: Path) -> None:
    assert offered("release", "") == []
    assert not state.exists()
    assert ultra("reserve", "api").status == 0

    assert offered("release", "") == ["api", str(project["api"])]
    assert offered("release", "ap") == ["api"]
    assert ultra("release", "api").status == 0
    assert offered("release", "") == []


def test_no_engine_is_asked_and_little_is_loaded(tmp_path: Path) -> None:
    asked: list[str] = []
    with counting_socket(tmp_path, asked) as path:
        environ = {
            **os.environ,
            "DOCKER_HOST": f"unix://{path}",
            "_ULTRA_PORTS_COMPLETE": "complete_fish",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            "_TYPER_COMPLETE_ARGS": "ultra-ports resolve 1",
        }
        argv = (sys.executable, "-X", "importtime", COMMAND)
        done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)
    names = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}

    assert asked == []
    assert "resolver.cli.completing" in names
    assert not names & {"docker", "redis", "asyncio", "rich"}


def test_every_line_is_an_option_with_its_whole_help() -> None:
    """The help of `run --port` is longer than a line of the terminal."""
    environ = {
        "_ULTRA_PORTS_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": "ultra-ports run --",
    }
    lines = ultra(env=environ).stdout.splitlines()
    assert all(line.startswith("--") for line in lines)
    [port] = (line for line in lines if line.startswith("--port\t"))
    assert port.endswith("every service of the project file.")


def test_a_project_that_makes_no_sense_offers_nothing(tmp_path: Path, project: object) -> None:
    assert project
    (tmp_path / "ultra-ports.toml").write_text("nonsense")
    assert offered("resolve", "") == []


def test_fish(project: dict[str, int], tmp_path: Path) -> None:
    fish = shutil.which("fish") or unavailable("fish is missing")
    asks = f"source {script_of('fish', tmp_path)}; complete -C 'ultra-ports env '"

    done = subprocess.run(
        [fish, "--no-config", "-c", asks], capture_output=True, text=True, timeout=60, check=True
    )

    assert {*done.stdout.splitlines()} >= {f"{name}\tport {project[name]}" for name in project}


def test_bash(project: dict[str, int], tmp_path: Path) -> None:
    script = script_of("bash", tmp_path)
    assert completed(script, "ultra-ports", "env", "fro") == ["frontend"]
    assert {*completed(script, "ultra-ports", "resolve", "")} >= {*project}


def test_zsh(project: dict[str, int], tmp_path: Path) -> None:
    """On a terminal: the word is completed, and the line that comes of it is run."""
    zsh = shutil.which("zsh") or unavailable("zsh is missing")
    begin = f"autoload -U compinit && compinit -u -D && source {script_of('zsh', tmp_path)}"
    main, terminal = os.openpty()
    with subprocess.Popen(
        [zsh, "-f", "-i"], stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True
    ) as shell:
        os.close(terminal)
        try:
            os.write(main, f"{begin} && echo rea''dy\n".encode())
            read_until(main, "ready")
            os.write(main, b"ultra-ports env fro\t\n")
            read_until(main, str(project["frontend"]))
        finally:
            shell.kill()
            os.close(main)


def read_until(descriptor: int, text: str) -> None:
    """Reads what a terminal shows until it has the text."""
    deadline, shown = time.monotonic() + 30, ""
    while text not in shown:
        readable, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        assert readable, shown
        shown += os.read(descriptor, 65536).decode(errors="replace")


def test_docker_completes_it(project: dict[str, int]) -> None:
    plugin = str(Path(COMMAND).with_name("docker-ports"))

    def told(*words: str) -> list[str]:
        done = subprocess.run(
            [plugin, "__complete", "ports", *words], capture_output=True, text=True, check=True
        )
        *lines, directive = done.stdout.splitlines()
        assert (directive, done.stderr) == (":4", "")
        return [line.partition("\t")[0] for line in lines]

    assert told("resol") == ["resolve"]
    assert told("fro") == told("resolve", "fro") == ["frontend"]
    assert {*told("")} >= {"resolve", *project}
