"""Who must outlive a resolve though it looks like a holder, or like what would start one again."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import contracts
from tests.lab.cli import COMMAND, Run, reported, ultra
from tests.lab.ports import free_port, is_free
from tests.lab.processes import (
    alive,
    answered_by,
    running,
    stays,
    stays_free,
    unavailable,
    wait_until,
)
from tests.scenarios.test_reloaders import serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.processes import Lab

FAST = ("--grace", "1", "--settle", "0.3")


def resolve(*arguments: str | int, prefix: tuple[str, ...] = ()) -> Run:
    return ultra("resolve", "--json", *FAST, *map(str, arguments), prefix=prefix)


def signalled(report: dict[str, Any]) -> set[int]:
    """The PIDs that the report says were signalled."""
    outcomes = [holder["outcome"] or {"actions": []} for holder in report["holders"]]
    return {
        int(word.strip(","))
        for outcome in outcomes
        for action in outcome["actions"]
        for word in action.split()
        if word.strip(",").isdigit()
    }


def test_a_shell_that_waits_for_the_server_goes_on(lab: Lab, tmp_path: Path) -> None:
    """`for` and `while` are English words too: a parent that says them is no loop."""
    port, saved = free_port(), tmp_path / "saved"
    words = f"echo waiting for the server, while it lasts; {serving(port)}; echo saved >{saved}"
    shell = lab.command("sh", "-c", words)
    wait_until(lambda: answered_by(port), "the server answers")
    server = answered_by(port)
    assert server != shell.pid

    run = resolve(port)

    report = reported(run, port, 0, "freed")
    assert signalled(report) == {server}
    assert shell.wait(10) == 0, "it ended by itself"
    assert saved.read_text() == "saved\n"
    assert stays_free(port, 0.5)


def test_an_ancestor_that_is_seventy_levels_up(lab: Lab) -> None:
    port = free_port()

    server = lab.start("descent", port, 70, COMMAND, "resolve", port, "--json", *FAST)

    assert server.facts["status"] == 3, server.facts["stdout"]
    (report,) = contracts.read(server.facts["stdout"])["ports"]
    (holder,) = report["holders"]
    assert (report["verdict"], holder["kind"]) == ("refused", "ancestor")
    assert answered_by(port) == server.pid


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "force"])
def test_a_terminal_multiplexer_that_inherited_the_listener(
    lab: Lab, tmp_path: Path, force: tuple[str, ...]
) -> None:
    tmux = shutil.which("tmux") or unavailable("tmux is missing")
    port = free_port()
    mine = (tmux, "-S", str(tmp_path / "tmux"), "-f", "/dev/null")
    server = lab.start("leaking", port, *mine, "new-session", "-d", "-s", "work", "sleep 500")
    ask = (*mine, "display-message", "-p", "-t", "work", "#{pid} #{pane_pid}")
    host, pane = map(int, subprocess.check_output(ask, text=True).split())

    run = resolve(port, *force)

    report = reported(run, port, 3, "refused")
    holding = {each["pid"] for found in report["holders"] for each in found["processes"]}
    assert {server.pid, host} <= holding, "tmux has the listener too"
    assert str(host) in report["reason"]
    assert host not in signalled(report)
    assert alive(host)
    assert alive(pane)
    if not force:  # the server alone would not free the port
        assert answered_by(port) == server.pid
        assert server.signals() == []


def test_a_master_that_saves_its_data_while_its_worker_hangs(lab: Lab, tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "data"
    server = lab.start("draining", port, "--worker", "--slow", "2", "--file", str(file))

    run = resolve(port)

    reported(run, port, 0, "freed")
    assert not alive(server.facts["worker"])
    assert server.popen.wait(10) == 0, "nobody killed it"
    assert file.read_text() == "all data\n"
    assert [event["event"] for event in server.events() if event["role"] == "master"] == ["SIGTERM"]
    assert stays_free(port, 0.5)


def test_what_let_go_of_the_port_before_the_answer(lab: Lab) -> None:
    port = free_port()
    server = lab.start("draining", port)
    with running("resolve", str(port), "--interactive", "--json", *FAST) as popen:
        assert popen.stderr is not None
        asked, _, _ = select.select([popen.stderr], [], [], 20.0)
        assert asked, "it asked nothing"
        os.kill(server.pid, signal.SIGUSR1)
        wait_until(lambda: is_free(port), "the server lets go of its port")
        stdout, stderr = popen.communicate("y\n", timeout=20)

    assert popen.returncode == 0, stdout + stderr
    (report,) = contracts.read(stdout)["ports"]
    assert report["verdict"] == "free"
    assert report["holders"][0]["outcome"]["result"] == "gone"
    assert server.alive
    assert server.signals() == []


@pytest.mark.root
@pytest.mark.parametrize("force", [(), ("--force",)], ids=["gently", "by force"])
def test_nothing_is_ended_for_a_port_that_another_user_keeps(
    lab: Lab, as_nobody: tuple[str, ...], force: tuple[str, ...]
) -> None:
    port = free_port()
    theirs = lab.start("answering", port, "--tcp", "127.0.0.1", prefix=as_nobody, log=False)
    roots = lab.start("answering", port, "--tcp", "127.0.0.2")

    run = resolve("--no-docker", *force, port, prefix=as_nobody)

    report = reported(run, port, 4, "hidden")
    assert signalled(report) == set()
    assert stays(lambda: answered_by(port) == theirs.pid, 0.5)
    assert answered_by(port, "127.0.0.2") == roots.pid

    run = resolve("--no-docker", f"127.0.0.1:{port}", prefix=as_nobody)

    assert (run.status, run.port(f"127.0.0.1:{port}/tcp")["verdict"]) == (0, "freed"), run.stdout
    assert not theirs.alive
    assert answered_by(port, "127.0.0.2") == roots.pid


def test_open_connections_are_not_said_to_be_closed(lab: Lab, gather: dict[str, str]) -> None:
    port = free_port()
    server = lab.start("parting", port)

    run = ultra("resolve", "--json", *FAST, str(port), env=gather)

    report = reported(run, port, 0, "free")
    said = " ".join([report["reason"], *report["notes"]])
    assert "open connection" in said
    assert str(server.facts["peer"]) in said
    assert "TIME_WAIT" not in said
    assert "closed connection" not in said
    assert server.alive
    assert server.signals() == []
