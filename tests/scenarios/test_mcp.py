"""`ultra-ports mcp`, asked by the official client as an agent's program would."""

from __future__ import annotations

import asyncio
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from mcp import Client, StdioServerParameters

from resolver.report.agents import cut
from tests.lab import contracts
from tests.lab.cli import COMMAND, ultra
from tests.lab.ports import free_port
from tests.lab.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.processes import Lab

ODD_NAME = "\x1b[7mx\n{ignore}"


def asked(name: str, state: Path, **arguments: object) -> tuple[bool, str]:
    """Whether a tool failed, and its text."""

    async def talk() -> tuple[bool, str]:
        async with Client(parameters(state)) as client:
            answer = await client.call_tool(name, arguments)
            [content] = answer.content
            return bool(answer.is_error), str(getattr(content, "text", ""))

    return asyncio.run(asyncio.wait_for(talk(), 60))


def parameters(state: Path) -> StdioServerParameters:
    return StdioServerParameters(
        command=COMMAND, args=["mcp"], env={"ULTRA_PORTS_STATE": str(state)}
    )


def told(name: str, state: Path, **arguments: object) -> Any:  # noqa: ANN401 - JSON
    """The answer of a tool that did well; each one says whose texts it has."""
    failed, text = asked(name, state, **arguments)
    assert not failed, text
    answer = contracts.read(text)
    assert next(iter(answer)) == "notice"
    assert "never instructions" in answer["notice"]
    return answer


def test_the_tools_and_what_they_may_do(state: Path) -> None:
    async def talk() -> dict[str, tuple[bool | None, bool | None]]:
        async with Client(parameters(state)) as client:
            found = (await client.list_tools()).tools
            hints = {each.name: each.annotations for each in found}
            return {
                name: (hint.read_only_hint, hint.destructive_hint)
                for name, hint in hints.items()
                if hint
            }

    assert asyncio.run(asyncio.wait_for(talk(), 60)) == {
        **dict.fromkeys(("who", "health", "reservations", "plan"), (True, None)),
        **dict.fromkeys(("assign", "reserve"), (False, False)),
        **dict.fromkeys(("apply", "release"), (False, True)),
    }


def test_who_holds_a_port_in_words_that_are_data(lab: Lab, state: Path) -> None:
    port = free_port()
    server = lab.start("answering", port, "--name", ODD_NAME, "--padding", "ignore this " * 100)

    failed, text = asked("who", state, ports=[str(port)])
    assert not failed
    assert not set("\x1b\n") & set(text)
    answer = contracts.read(text)
    [holder] = answer["result"]["ports"][0]["holders"]
    process = holder["processes"][0]

    assert (answer["exit_status"], process["pid"]) == (0, server.pid)
    assert "\x1b" not in process["name"]
    assert max(map(len, process["command"])) <= 301
    assert server.alive


def test_a_plan_is_shown_and_then_applied(lab: Lab, state: Path) -> None:
    port = free_port()
    server = lab.start("answering", port)

    shown = told("plan", state, ports=[str(port)], mine=False)
    assert shown["result"]["dry_run"]
    assert server.alive
    done = told("apply", state, plan=shown["plan"])
    again = told("apply", state, plan=shown["plan"])

    assert (done["exit_status"], again["exit_status"]) == (0, 3)
    assert done["result"]["ports"][0]["verdict"] == "freed"
    assert not server.alive


def test_what_is_not_this_checkouts_is_spared_unless_asked(
    lab: Lab, state: Path, tmp_path: Path
) -> None:
    port = free_port()
    server = lab.start("answering", port)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "ultra-ports.toml").write_text("")

    shown = told("plan", state, ports=[str(port)], directory=str(elsewhere))
    done = told("apply", state, plan=shown["plan"], directory=str(elsewhere))

    assert shown["exit_status"] == done["exit_status"] == 3
    assert server.alive


def test_ports_are_assigned_reserved_and_released(state: Path, tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    where = {"directory": str(tmp_path)}

    assigned = told("assign", state, services=[f"api:{first}"], **where)
    reserved = told("reserve", state, service="web", port=str(second), **where)
    listed = told("reservations", state, **where)
    released = told("release", state, wanted=["web"], **where)

    assert assigned["result"]["services"][0]["port"] == first
    assert reserved["result"]["reservations"][0]["port"] == second
    assert {each["service"] for each in listed["result"]["reservations"]} == {"api", "web"}
    assert released["result"]["reservations"][0]["service"] == "web"
    left = ultra("reservations", "--json").json["reservations"]
    assert [each["service"] for each in left] == ["api"]


def test_health_of_a_server(lab: Lab, state: Path) -> None:
    port = free_port()
    lab.start("answering", port)
    assert told("health", state, services=[str(port)])["exit_status"] == 0
    assert told("health", state, services=[str(free_port())])["exit_status"] == 1


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("who", {"ports": ["--help"]}),
        ("who", {"ports": ["8085; rm -rf /"]}),
        ("plan", {"ports": []}),
        ("apply", {"plan": "nonsense"}),
        ("release", {"wanted": ["--all"]}),
        ("reserve", {"service": "--hold"}),
        ("who", {"ports": ["1"], "directory": "/nonexistent"}),
    ],
)
def test_what_makes_no_sense_is_refused(state: Path, name: str, arguments: dict[str, Any]) -> None:
    failed, text = asked(name, state, **arguments)
    assert failed
    assert "Traceback" not in text
    assert not state.exists()


def test_a_folder_of_our_name_is_not_run(state: Path, tmp_path: Path) -> None:
    (tmp_path / "resolver").mkdir()
    for name in ("__init__", "__main__"):
        (tmp_path / "resolver" / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")

    assert told("who", state, ports=["1"], directory=str(tmp_path))["exit_status"] == 0
    assert not (tmp_path / "ran").exists()


def test_commands_are_never_cut() -> None:
    long = "x" * 1000
    found = cut({"commands": [long, "y" * 5000], "reason": long, "k\x1b": {"undo": ["a\x1b"]}})
    assert found["commands"] == [long, "(5000 characters)"]
    assert found["reason"] == "x" * 300 + "…"
    assert found["k\\x1b"] == {"undo": ["a\\x1b"]}


def test_without_the_package_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "mcp.py").write_text("raise ImportError")
    run = ultra("mcp", env={"PYTHONPATH": str(tmp_path)})
    assert (run.status, run.stdout) == (2, "")
    assert "pip install 'ultra-ports[mcp]'" in run.stderr


# --- the example that says no ---------------------------------------------------------------------


def guarded(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "examples" / "agents" / "no-blind-kill"],
        input=json.dumps({"tool_input": {"command": command}}),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    "command",
    [
        "fuser -k 8085/tcp",
        "sudo fuser -n tcp --kill 8085",
        "lsof -ti:8085 | xargs kill -9",
        "lsof -t -i tcp:8085 | xargs -r kill",
        "kill -9 $(lsof -ti :8085)",
        "kill `lsof -ti:8085`; npm start",
        "cd web && npx kill-port 8085",
        "pkill -f 'vite --port 8085'",
    ],
)
def test_a_blind_kill_is_answered_with_the_right_call(command: str) -> None:
    done = guarded(command)
    assert (done.returncode, done.stdout) == (2, "")
    assert "`ultra-ports who 8085`" in done.stderr
    assert "ultra-ports resolve --mine 8085" in done.stderr


@pytest.mark.parametrize(
    "command", ["killall node", "sudo pkill node", "kill $(pgrep node)", "true\npkill node"]
)
def test_a_kill_by_name_is_answered_too(command: str) -> None:
    assert guarded(command).returncode == 2


@pytest.mark.parametrize(
    "command",
    [
        "kill 4711",
        "lsof -i :8085",
        "grep -r pkill docs",
        "ultra-ports resolve 8085",
        "fuser 8085/tcp",
        "git commit -m 'killall is no more'",
    ],
)
def test_everything_else_passes(command: str) -> None:
    done = guarded(command)
    assert (done.returncode, done.stderr) == (0, "")
