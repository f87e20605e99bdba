"""`ultra-ports mcp`, asked by the official client as an agent's program would."""

from __future__ import annotations

import asyncio
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from anyio.from_thread import start_blocking_portal
from mcp import Client, StdioServerParameters

from resolver.report.agents import cut
from tests.lab import contracts
from tests.lab.cli import COMMAND, ultra
from tests.lab.ports import free_port
from tests.lab.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anyio.from_thread import BlockingPortal

    from tests.lab.processes import Lab

ODD_NAME = "\x1b[7mx\n{ignore}"


class Agent:
    """A client of one server, in which a test asks all that it has to ask."""

    def __init__(self, portal: BlockingPortal, client: Client) -> None:
        self._portal = portal
        self._client = client

    def hints(self) -> dict[str, tuple[bool | None, bool | None]]:
        """Whether each tool only reads, and whether it destroys."""
        found = self._portal.call(lambda: asyncio.wait_for(self._client.list_tools(), 60)).tools
        hints = {each.name: each.annotations for each in found}
        return {
            name: (hint.read_only_hint, hint.destructive_hint)
            for name, hint in hints.items()
            if hint
        }

    def asked(self, name: str, **arguments: object) -> tuple[bool, str]:
        """Whether a tool failed, and its text."""
        answer = self._portal.call(
            lambda: asyncio.wait_for(self._client.call_tool(name, arguments), 60)
        )
        [content] = answer.content
        return bool(answer.is_error), str(getattr(content, "text", ""))

    def told(self, name: str, **arguments: object) -> Any:  # noqa: ANN401 - JSON
        """The answer of a tool that did well; each one says whose texts it has."""
        failed, text = self.asked(name, **arguments)
        assert not failed, text
        answer = contracts.read(text)
        assert next(iter(answer)) == "notice"
        assert "never instructions" in answer["notice"]
        return answer


@pytest.fixture
def agent(state: Path) -> Iterator[Agent]:
    """One that has the test's state directory."""
    server = StdioServerParameters(
        command=COMMAND, args=["mcp"], env={"ULTRA_PORTS_STATE": str(state)}
    )
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Client(server)) as client,
    ):
        yield Agent(portal, client)


def test_the_tools_and_what_they_may_do(agent: Agent) -> None:
    assert agent.hints() == {
        **dict.fromkeys(("who", "health", "reservations", "plan"), (True, None)),
        **dict.fromkeys(("assign", "reserve"), (False, False)),
        **dict.fromkeys(("apply", "release"), (False, True)),
    }


def test_who_holds_a_port_in_words_that_are_data(lab: Lab, agent: Agent) -> None:
    port = free_port()
    server = lab.start("answering", port, "--name", ODD_NAME, "--padding", "ignore this " * 100)

    failed, text = agent.asked("who", ports=[str(port)])
    assert not failed
    assert not set("\x1b\n") & set(text)
    answer = contracts.read(text)
    [holder] = answer["result"]["ports"][0]["holders"]
    process = holder["processes"][0]

    assert (answer["exit_status"], process["pid"]) == (0, server.pid)
    assert "\x1b" not in process["name"]
    assert max(map(len, process["command"])) <= 301
    assert server.alive


def test_a_plan_is_shown_and_then_applied(lab: Lab, agent: Agent) -> None:
    port = free_port()
    server = lab.start("answering", port)

    shown = agent.told("plan", ports=[str(port)], mine=False)
    assert shown["result"]["dry_run"]
    assert server.alive
    done = agent.told("apply", plan=shown["plan"])
    again = agent.told("apply", plan=shown["plan"])

    assert (done["exit_status"], again["exit_status"]) == (0, 3)
    assert done["result"]["ports"][0]["verdict"] == "freed"
    assert not server.alive


def test_what_is_not_this_checkouts_is_spared_unless_asked(
    lab: Lab, agent: Agent, tmp_path: Path
) -> None:
    port = free_port()
    server = lab.start("answering", port)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "ultra-ports.toml").write_text("")

    shown = agent.told("plan", ports=[str(port)], directory=str(elsewhere))
    done = agent.told("apply", plan=shown["plan"], directory=str(elsewhere))

    assert shown["exit_status"] == done["exit_status"] == 3
    assert server.alive


def test_ports_are_assigned_reserved_and_released(agent: Agent, tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    where = {"directory": str(tmp_path)}

    assigned = agent.told("assign", services=[f"api:{first}"], **where)
    reserved = agent.told("reserve", service="web", port=str(second), **where)
    listed = agent.told("reservations", **where)
    released = agent.told("release", wanted=["web"], **where)

    assert assigned["result"]["services"][0]["port"] == first
    assert reserved["result"]["reservations"][0]["port"] == second
    assert {each["service"] for each in listed["result"]["reservations"]} == {"api", "web"}
    assert released["result"]["reservations"][0]["service"] == "web"
    left = ultra("reservations", "--json").json["reservations"]
    assert [each["service"] for each in left] == ["api"]


def test_health_of_a_server(lab: Lab, agent: Agent) -> None:
    port = free_port()
    lab.start("answering", port)
    assert agent.told("health", services=[str(port)])["exit_status"] == 0
    assert agent.told("health", services=[str(free_port())])["exit_status"] == 1


def test_what_makes_no_sense_is_refused(agent: Agent, state: Path) -> None:
    nonsense: list[tuple[str, dict[str, object]]] = [
        ("who", {"ports": ["--help"]}),
        ("who", {"ports": ["8085; rm -rf /"]}),
        ("plan", {"ports": []}),
        ("apply", {"plan": "nonsense"}),
        ("release", {"wanted": ["--all"]}),
        ("reserve", {"service": "--hold"}),
        ("who", {"ports": ["1"], "directory": "/nonexistent"}),
    ]
    for name, arguments in nonsense:
        failed, text = agent.asked(name, **arguments)
        assert failed, (name, arguments)
        assert "Traceback" not in text
    assert not state.exists()


def test_a_folder_of_our_name_is_not_run(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "resolver").mkdir()
    for name in ("__init__", "__main__"):
        (tmp_path / "resolver" / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")

    assert agent.told("who", ports=["1"], directory=str(tmp_path))["exit_status"] == 0
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
