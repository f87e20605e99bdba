"""A supervisord however it was started, and what its configuration really says of a program."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.cli import Run, reported, ultra
from tests.lab.ports import free_port
from tests.lab.processes import alive, answered_by, stays, unavailable, wait_until
from tests.lab.supervisord import program, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.processes import Lab

pytestmark = [pytest.mark.supervisord, pytest.mark.slow]

FAST = ("--settle", "0.3", "--grace", "1")
BASE = """\
[supervisord]
logfile={place}.log
pidfile={place}.pid
childlogdir={home}
[unix_http_server]
file={place}.sock
[supervisorctl]
serverurl=unix://{place}.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder for supervisord; its path is short, since a unix socket's has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="lab") as folder:
        yield Path(folder)


def tool(name: str) -> str:
    return shutil.which(name) or unavailable(f"{name} is missing")


def configure(file: Path, sections: str) -> Path:
    place = file.with_suffix("")
    file.write_text(BASE.format(place=place, home=file.parent) + sections)
    return file


def ctl(config: Path, *arguments: str) -> str:
    words = [tool("supervisorctl"), "-c", str(config), *arguments]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def start(lab: Lab, config: Path, *argv: str) -> int:
    """Starts a supervisord with these words in its configuration's folder; returns its PID."""
    popen = lab.command(*argv, cwd=config.parent)
    wait_until(lambda: ctl(config, "pid") == str(popen.pid), "supervisord answers")
    return popen.pid


def running(config: Path, name: str) -> int:
    """The PID of a program, once it runs."""
    wait_until(lambda: ctl(config, "pid", name).strip("0").isdigit(), f"{name} runs")
    return int(ctl(config, "pid", name))


def serves(port: int) -> None:
    wait_until(lambda: answered_by(port), "the program answers")


def resolve(port: int, *arguments: str) -> Run:
    return ultra("resolve", *FAST, "--json", *arguments, str(port))


def advised(run: Run, port: int) -> dict[str, Any]:
    """The one holder of a port that was left to its manager."""
    report = reported(run, port, 3, "advised")
    (holder,) = report["holders"]
    assert isinstance(holder, dict)
    return holder


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "force"])
@pytest.mark.parametrize("how", ["script", "module"])
def test_supervisords_own_ports(lab: Lab, home: Path, how: str, force: tuple[str, ...]) -> None:
    """Its control port, and the socket that it opens for a FastCGI program."""
    control, shared = free_port(), free_port()
    config = configure(
        home / "own.conf",
        f"[inet_http_server]\nport=127.0.0.1:{control}\n"
        f"[fcgi-program:fast]\nsocket=tcp://127.0.0.1:{shared}\ncommand=sleep 1000\n"
        + program("idle", "sleep 1000", "true"),
    )
    script = tool("supervisord")
    python = Path(script).read_text(encoding="utf-8").partition("\n")[0].removeprefix("#!").split()
    words = [script] if how == "script" else ["-m", "supervisor.supervisord"]
    daemon = start(lab, config, *python, *words, "-n", "-c", str(config))
    children = {name: running(config, name) for name in ("idle", "fast:fast")}

    for port in (control, shared):
        run = resolve(port, *force)

        report = run.port(f"{port}/tcp")
        assert run.status == 3, run.stdout + run.stderr
        assert report["verdict"] in {"advised", "refused"}
        assert str(daemon) in run.stdout
    assert stays(lambda: alive(daemon), 0.5)
    assert {name: running(config, name) for name in children} == children


def test_two_supervisords_in_one_folder(lab: Lab, home: Path) -> None:
    ports = {"supervisord.conf": free_port(), "other.conf": free_port()}
    configs = {
        name: configure(home / name, program("web", serving(port), "true"))
        for name, port in ports.items()
    }
    for name, config in configs.items():
        start(lab, config, tool("supervisord"), "-nc", name)
        serves(ports[name])
    port, other = ports["other.conf"], configs["other.conf"]
    pids = [running(config, "web") for config in configs.values()]

    holder = advised(resolve(port), port)

    assert (holder["manager"]["name"], holder["confidence"]) == ("web:web", "confirmed")
    assert holder["step"]["command_lines"] == [f"supervisorctl -c {other} stop web:web"]
    assert [running(config, "web") for config in configs.values()] == pids

    run = resolve(port, "--stop-services")
    assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (0, "freed"), run.stdout
    assert answered_by(ports["supervisord.conf"]) == pids[0]


def test_a_group_with_the_name_of_another_program(lab: Lab, home: Path) -> None:
    port = free_port()
    config = configure(
        home / "groups.conf",
        "[group:api]\nprograms=web\n"
        + program("api", "sleep 1000", "false")
        + program("web", serving(port), "true"),
    )
    start(lab, config, tool("supervisord"), "-n", "-c", str(config))
    serves(port)
    pid = answered_by(port)

    holder = advised(resolve(port), port)

    assert (holder["manager"]["name"], holder["respawn"]) == ("api:web", "yes")
    assert holder["manager"]["policy"] == "autorestart=true"
    assert answered_by(port) == pid


def test_an_absolute_include_with_two_slashes(lab: Lab, home: Path) -> None:
    port = free_port()
    config = configure(home / "main.conf", f"[include]\nfiles = /{home}/parts/*.ini\n")
    (home / "parts").mkdir()
    (home / "parts" / "web.ini").write_text(program("web", serving(port), "true"))
    start(lab, config, tool("supervisord"), "-n", "-c", str(config))
    serves(port)

    holder = advised(resolve(port), port)

    assert holder["manager"]["policy"] == "autorestart=true"
