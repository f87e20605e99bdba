"""The command line as a user meets it: help, options, and what is printed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import resolver
from resolver.cli.commands import COMMANDS
from tests.lab.cli import refused, reported, ultra, ultra_each
from tests.lab.namespaces import network_namespace
from tests.lab.ports import free_port, free_range
from tests.lab.processes import answered_by, unavailable
from tests.lab.terminal import typed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.processes import Lab

QUICK = ("--grace", "1", "--settle", "0.3")
ENVELOPE = {
    "schema",
    "tool",
    "command",
    "dry_run",
    "exit_status",
    "scan",
    "engines",
    "ports",
    "notes",
}
PORT = {
    "label",
    "port",
    "request",
    "services",
    "verdict",
    "reason",
    "holders",
    "retaken_by",
    "successors",
    "nearest_free",
    "notes",
}
HOLDER = {
    *("binding", "state", "kind", "manager", "respawn", "confidence", "processes", "container"),
    *("chain", "evidence", "collateral", "ownership", "step", "outcome", "name", "pid"),
}
WIDEST_HELP = 78  # columns
PROCESS = {"pid", "start_time", "name", "command", "user", "cwd", "parent"}


@pytest.mark.parametrize("arguments", [["resolve", "-h"], ["who", "-h"]], ids=" ".join)
def test_help_leads_with_examples_and_tells_the_exit_statuses(arguments: list[str]) -> None:
    run = ultra(*arguments, env={"COLUMNS": "100"})

    assert (run.status, run.stderr) == (0, "")
    options = re.search(r"(?m)^\W*Options\W*$", run.stdout)
    assert options is not None
    before_the_options = run.stdout[: options.start()]
    assert "Examples" in before_the_options
    command = "who" if "who" in arguments else "resolve"
    assert f"ultra-ports {command} " in before_the_options.partition("Examples")[2]
    statuses = {0, 1, 2, 3, 4, 5, 130} - ({3} if command == "who" else set())
    for status in statuses:
        assert re.search(rf"(?m)^\W*{status}\b", run.stdout), f"{status} is not explained"


def test_the_overview_fits_a_terminal_and_names_every_command_and_status() -> None:
    run = ultra("-h")
    lines = run.stdout.splitlines()

    assert (run.status, run.stderr) == (0, "")
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 80
    for group in ("Free ports", "Compose", "Assign and reserve", "Health", "More"):
        assert f"{group}:" in lines
    words = set(re.findall(r"[a-z-]+", run.stdout))
    assert set(COMMANDS) <= words, set(COMMANDS) - words
    statuses = re.findall(r"\b(\d+) [a-z]", run.stdout[run.stdout.index("Exit status") :])
    assert statuses == ["0", "1", "2", "3", "4", "5", "130"]
    assert ultra("--help").stdout == run.stdout


def test_every_command_has_its_help() -> None:
    runs = ultra_each(((command, "-h") for command in COMMANDS), env={"COLUMNS": "80"})
    for command, run in zip(COMMANDS, runs, strict=True):
        assert (run.status, run.stderr) == (0, ""), command
        assert f"ultra-ports {command}" in run.stdout
        too_wide = [line for line in run.stdout.splitlines() if len(line) > WIDEST_HELP]
        assert not too_wide, f"{command}: the manual page has it indented"
        assert ("bound for proof" in run.stdout) == (command in {"resolve", "apply", "wait"})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("resolve", "8O85"),
            "'8O85' is not a port: expected a number from 1 to 65535 (a PORT is 8085",
        ),
        (("resolve", "8085", "--grace", "soon"), "--grace: expected a number, not 'soon'"),
        (("apply", "/srv/" + "long/" * 30 + "plan.json"), "/srv/" + "long/" * 30 + "plan.json"),
    ],
    ids=["usage", "typer", "path"],
)
def test_an_error_is_wrapped_at_spaces_on_a_terminal(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    status, shown = typed(*words, cwd=tmp_path)

    assert status == 2
    assert said in " ".join(shown.split())
    for line in shown.splitlines():
        assert len(line) <= 80 or " " not in line.strip(), "only a word may be longer"


def test_the_manual_is_made_of_the_help() -> None:
    run = ultra("man")
    assert run.status == 0
    groff = shutil.which("groff") or unavailable("groff is missing")
    done = subprocess.run(
        [groff, "-man", "-Tascii", "-P-cbou", "-ww"],
        input=run.stdout,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    page = done.stdout
    assert max(map(len, page.splitlines())) <= 80
    for command in COMMANDS:
        assert f"   {command} - " in page, command
    for line in ("--stop-services", "    ultra-ports resolve --stale ", "130  interrupted"):
        assert line in page, line


def test_a_help_text_names_the_command_that_is_typed() -> None:
    module = [sys.executable, "-m", "resolver", "who", "--help"]
    told = subprocess.run(module, capture_output=True, text=True, check=True).stdout
    asked = ultra("help", "who")

    assert told == asked.stdout
    assert asked.stdout.startswith("Usage: ultra-ports who ")
    assert "0  it could answer: held or free" in asked.stdout
    assert "bound for proof" not in asked.stdout, "it is no `resolve`"
    assert ultra("help").stdout == ultra("-h").stdout


@pytest.mark.parametrize(
    ("words", "schema"),
    [
        (("assign", "api:PORT"), "assignment"),
        (("env", "api"), "env"),
        (("env",), "env"),
        (("wait", "PORT", "--timeout", "0"), "wait"),
        (("wait", "PORT", "--until", "free"), "wait"),
    ],
)
def test_json_is_an_envelope_everywhere(
    words: tuple[str, ...], schema: str, tmp_path: Path
) -> None:
    port = str(free_port())
    (tmp_path / "ultra-ports.toml").write_text(f"services.api = {port}")
    run = ultra(*(word.replace("PORT", port) for word in words), "--json", cwd=tmp_path)

    assert run.json["schema"] == f"ultra-ports.{schema}/1"
    assert (run.json["command"], run.json["exit_status"]) == (words[0], run.status)
    if schema == "env":
        assert run.json["values"]["api"] == port
    if words[-1] == "0":
        assert (run.status, len(run.json["unmet"])) == (1, 1)


def test_long_help_is_the_same() -> None:
    assert ultra("resolve", "--help").stdout == ultra("resolve", "-h").stdout


def test_version() -> None:
    run = ultra("--version")

    assert (run.status, run.stdout) == (0, f"ultra-ports {resolver.__version__}\n")


def test_json_is_one_versioned_envelope(lab: Lab) -> None:
    port, free = free_port(), free_range(2)
    server = lab.start("answering", port)

    run = ultra(
        "resolve",
        f"{port},{free}/udp",
        f"127.0.0.1:{free}",
        f"[::1]:{free}-{free + 1}",
        "--json",
        *QUICK,
    )

    envelope = run.json
    assert set(envelope) == ENVELOPE
    assert envelope["schema"] == "ultra-ports.report/1"
    assert envelope["tool"] == {"name": "ultra-ports", "version": resolver.__version__}
    assert (envelope["command"], envelope["dry_run"]) == ("resolve", False)
    assert envelope["exit_status"] == run.status
    labels = [f"{port}/tcp", f"{free}/udp", f"127.0.0.1:{free}/tcp"]
    labels += [f"[::1]:{free}/tcp", f"[::1]:{free + 1}/tcp"]
    assert [entry["label"] for entry in envelope["ports"]] == labels
    assert all(set(entry) == PORT for entry in envelope["ports"])
    [holder] = run.port(f"{port}/tcp")["holders"]
    assert set(holder) == HOLDER
    [process] = holder["processes"]
    assert set(process) == PROCESS
    assert (process["pid"], process["parent"]) == (server.pid, os.getpid())
    assert process["command"][-1] == str(port)
    assert (run.port(f"{port}/tcp")["port"], holder["pid"]) == (port, server.pid)
    assert holder["step"]["undo"] == [process["command"]]
    assert holder["step"]["undo_lines"][0].startswith(f"cd {process['cwd']} && ")
    assert (holder["manager"], holder["container"], holder["respawn"]) == (None, None, "no")
    assert holder["step"]["undo_lines"], "nothing says how to start it again"


def test_text_tells_the_whole_story(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    server = lab.start("answering", port)

    run = ultra("resolve", "-v", str(port), *QUICK)

    assert run.status == 0
    for part in (str(port), str(server.pid), "freed", "→", "SIGTERM"):
        assert part in run.stdout, part
    undo = [line for line in run.stdout.splitlines() if "tests.lab.servers.answering" in line]
    assert any(str(tmp_path) in line for line in undo), "no line says where and how it was started"
    assert lab.frees(port)


def test_a_pipe_gets_no_colours(lab: Lab) -> None:
    port = free_port()
    lab.start("answering", port)

    run = ultra("who", str(port))

    assert "\x1b" not in run.stdout + run.stderr


@pytest.mark.parametrize("option", ["--dry-run", "-n"])
def test_dry_run_touches_nothing(lab: Lab, option: str) -> None:
    port = free_port()
    server = lab.start("answering", port)

    run = ultra("resolve", str(port), str(free_port()), option, "--json")

    report = run.port(f"{port}/tcp")
    assert (run.status, run.json["exit_status"], run.json["dry_run"]) == (0, 0, True)
    assert report["verdict"] == "would-free"
    [holder] = report["holders"]
    assert (holder["step"]["kind"], holder["outcome"]) == ("kill", None)
    assert answered_by(port) == server.pid
    assert server.was_left_alone()


def test_dry_run_of_a_free_port() -> None:
    run = ultra("resolve", str(free_port()), "--dry-run", "--json")

    assert (run.status, run.json["ports"][0]["verdict"]) == (0, "free")


@pytest.mark.parametrize(
    "answer", ["n\n", "\n", "", "perhaps\nn\n"], ids=["n", "enter", "eof", "odd"]
)
def test_interactive_without_a_yes_touches_nothing(lab: Lab, answer: str) -> None:
    port = free_port()
    server = lab.start("answering", port)

    run = ultra("resolve", str(port), "--interactive", "--json", *QUICK, stdin=answer)

    report = reported(run, port, 1, "held")
    assert report["holders"][0]["outcome"]["result"] == "skipped"
    said = "you said no" if answer else "nobody answered"
    assert report["holders"][0]["outcome"]["reason"] == said
    story, _, _ = run.stderr.partition("End it? [y/N] ")
    assert f"PID {server.pid}, " in story, "the question does not say who is meant"
    assert "to free it" not in story
    assert answered_by(port) == server.pid
    assert server.was_left_alone()


def test_interactive_with_a_yes(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port)

    run = ultra("resolve", str(port), "-i", *QUICK, stdin="y\n")

    assert run.status == 0
    assert not server.alive
    assert lab.frees(port)


def test_interactive_asks_about_each(lab: Lab) -> None:
    first, second = free_port(), free_port()
    kept, ended = lab.start("answering", first), lab.start("answering", second)

    run = ultra("resolve", str(first), str(second), "-i", "--json", *QUICK, stdin="n\ny\n")

    assert run.status == 1
    verdicts = [port["verdict"] for port in run.json["ports"]]
    assert verdicts == ["held", "freed"]
    assert kept.alive
    assert kept.signals() == []
    assert not ended.alive


@pytest.mark.parametrize("option", ["--quiet", "-q"])
def test_quiet(lab: Lab, option: str) -> None:
    port = free_port()
    server = lab.start("answering", port)

    run = ultra("resolve", str(port), option, "--no-docker", *QUICK)

    assert (run.status, run.stdout, run.stderr) == (0, "", "")
    assert not server.alive
    assert lab.frees(port)


def test_who_touches_nothing(lab: Lab, gather: dict[str, str]) -> None:
    port = free_port()
    server = lab.start("answering", port)

    run = ultra("who", str(port), "--json", env=gather)

    report = run.port(f"{port}/tcp")
    assert (run.status, run.json["command"], report["verdict"]) == (0, "who", "held")
    [holder] = report["holders"]
    assert (holder["kind"], holder["outcome"]) == ("local", None)
    assert holder["processes"][0]["pid"] == server.pid
    assert answered_by(port) == server.pid
    assert server.was_left_alone()


def test_who_of_a_free_port() -> None:
    run = ultra("who", str(free_port()), "--json")

    assert (run.status, run.json["ports"][0]["verdict"]) == (0, "free")


def test_who_without_a_port_lists_every_held_one(lab: Lab, gather: dict[str, str]) -> None:
    tcp, udp = free_port(), free_port()
    servers = [lab.start("answering", tcp), lab.start("answering", udp, "--udp", "127.0.0.1")]

    run = ultra("who", "--json", env=gather)
    text = ultra("who", env=gather)

    holders = [holder for port in run.json["ports"] for holder in port["holders"]]
    held = {
        (holder["binding"]["port"], holder["binding"]["transport"], process["pid"])
        for holder in holders
        for process in holder["processes"]
    }
    assert {(tcp, "tcp", servers[0].pid), (udp, "udp", servers[1].pid)} <= held
    verdicts = {port["verdict"] for port in run.json["ports"]}
    assert verdicts <= {"held", "hidden", "undecided"}
    assert f"{tcp}" in text.stdout
    assert f"{udp}" in text.stdout
    assert all(server.alive and server.signals() == [] for server in servers)
    assert text.status == run.status == 0, "a listing, whatever it cannot see"


def test_the_same_port_twice_is_worked_on_once(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port)

    run = ultra("resolve", str(port), f"{port}/tcp,{port}-{port}", "--json", *QUICK)

    assert [entry["label"] for entry in run.json["ports"]] == [f"{port}/tcp"]
    assert run.status == 0
    assert server.signals() == ["SIGTERM"]


def test_a_port_alone_is_looked_at(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port)
    run = ultra(f"http://localhost:{port}/x")
    assert run.status == 0
    assert f"PID {server.pid}, " in run.stdout
    assert run.stdout.endswith(f"  to free it: ultra-ports resolve {port}\n")
    assert run.stdout == ultra("who", str(port)).stdout
    assert server.signals() == []


def test_what_other_tools_call_it_is_answered_and_not_done() -> None:
    meant = {
        ("kill", "8085"): "ultra-ports resolve 8085",
        ("free", "8085", "9000"): "ultra-ports resolve 8085 9000",
        ("ls",): "ultra-ports who",
        ("status", "api"): "ultra-ports health api",
    }
    refused(
        (words, f"ultra-ports: there is no command '{words[0]}'; what is meant may be: {line}\n")
        for words, line in meant.items()
    )


def test_an_error_says_what_was_expected() -> None:
    expectations = [
        (("resolve", "--grace", "x", "1"), "--grace: expected a number, not 'x'"),
        (("resolve", "1", "--grace"), "--grace: expected a value behind it"),
        (("assign", "--format", "x"), "--format: expected one of 'env', "),
        (("who", "1", "--jsn"), "there is no option --jsn (Possible options: --json"),
        (("reserve",), "NAME[:PORT] is missing"),
        (("nosuch",), "there is no command 'nosuch' (ultra-ports -h lists them)"),
        (("who", "8085x"), "'8085x' is not a port: expected a number from 1 to 65535 (a PORT is "),
    ]
    refused((words, f"ultra-ports: {said}") for words, said in expectations)


def test_nothing_typed_is_answered_with_a_short_help_where_nobody_can_answer() -> None:
    run = ultra()
    assert (run.status, run.stdout) == (2, "")
    assert run.stderr.startswith("Usage: ultra-ports")
    assert len(run.stderr.splitlines()) < 10


@pytest.mark.root
def test_nothing_typed_on_a_terminal_lists_what_is_held_and_frees_what_is_chosen(
    lab: Lab, tmp_path: Path
) -> None:
    (tmp_path / ".git").mkdir()
    with network_namespace(lab) as prefix:
        inside = ("/usr/bin/nsenter", f"--net=/run/netns/{prefix[-1]}")
        other = lab.start("answering", 7001, prefix=(*inside, "env", "-C", "/"))
        mine = lab.start("answering", 7002, prefix=(*inside, "env", "-C", str(tmp_path)))
        question = "free which?"

        shown = ""
        for answer in ("", "nonsense\n7002"):
            assert mine.alive
            got, shown = typed(answers={question: answer}, cwd=tmp_path, prefix=inside)
            assert got == 0, shown
            assert shown.index("7002") < shown.index("7001"), "mine first"
        left, last = typed(answers={question: "\x03"}, cwd=tmp_path, prefix=inside)
        assert (left, "ultra-ports: interrupted" in last) == (130, True), last

        assert "expected a PORT or the name of a service" in shown
        assert shown.count(question) == 2, "a typing error is asked again"
        assert "freed" in shown
        assert not mine.alive
        assert other.alive
