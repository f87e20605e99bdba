"""`ultra-ports wait`: for free, held and healthy ports, and the program that runs afterwards."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import COMMAND, refused, ultra
from tests.lab.ports import free_port, is_free
from tests.lab.processes import READY_SECONDS, answered_by, running, stays, wait_until
from tests.lab.terminal import typed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.engine import Engine
    from tests.lab.processes import Lab

SAY_PID = ("/bin/sh", "-c", 'echo "$$ $1"; exit 7', "sh", "two  words")


def begun(*arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """`ultra-ports wait` in the background."""
    return subprocess.Popen(
        [COMMAND, "wait", *arguments],
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_until_free_and_then_a_program_in_its_place(lab: Lab, gather: dict[str, str]) -> None:
    port = free_port()
    server = lab.start("answering", port)
    waiting = begun(str(port), "--until", "free", "--", *SAY_PID, env=gather)
    with waiting:
        assert stays(lambda: waiting.poll() is None, 1.0)
        assert answered_by(port) == server.pid
        server.popen.terminate()
        out, errors = waiting.communicate(timeout=READY_SECONDS)

    assert (waiting.returncode, out) == (7, f"{waiting.pid} two  words\n")
    assert re.fullmatch(rf"ultra-ports: free after \d+(\.\d)? s: {port}\n", errors)


def test_signals_reach_the_program() -> None:
    script = 'trap "echo term; exit 9" TERM; echo ready; while :; do sleep 0.1; done'
    with begun(str(free_port()), "--until", "free", "-q", "--", "sh", "-c", script) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "ready\n"
        waiting.terminate()
        assert waiting.wait(READY_SECONDS) == 9
        assert waiting.stdout.read() == "term\n"


def test_the_program_has_its_signals_as_they_were() -> None:
    """Python ignores SIGPIPE; a pipeline's program counts on it."""
    script = "yes; echo $? >&2"
    with begun(str(free_port()), "--until", "free", "-q", "--", "sh", "-c", script) as waiting:
        assert waiting.stdout is not None
        waiting.stdout.readline()
        waiting.stdout.close()
        assert waiting.stderr is not None
        assert waiting.stderr.read().strip() == str(128 + signal.SIGPIPE)


def test_not_in_time(lab: Lab) -> None:
    port, other = free_port(), free_port()
    server = lab.start("answering", port, "--name", "busy\x1b[31m")

    run = ultra(
        "wait", f"{port},{other}", "--until", "free", "--timeout", "0.5", "--", "echo", "no"
    )

    assert (run.status, run.stdout) == (1, "")
    assert run.stderr == (
        f"ultra-ports: not free after 0.5 s: {port}/tcp is held by busy\\x1b[31m {server.pid}\n"
    )
    assert answered_by(port) == server.pid
    assert is_free(other)


def test_one_look(lab: Lab) -> None:
    port, other = free_port(), free_port()
    lab.start("answering", port)
    for until, right, wrong in (
        ("free", other, port),
        ("held", port, other),
        ("healthy", port, other),
    ):
        assert ultra("wait", str(right), "--until", until, "--timeout", "0").status == 0
        assert ultra("wait", str(wrong), "--until", until, "--timeout", "0").status == 1


@pytest.mark.parametrize(
    "pasted",
    [":P", "localhost:P", "http://localhost:P/x,y", "tcp/P", "[::]:P", "0.0.0.0:P", "*:P"],
)
def test_a_port_is_taken_as_it_is_pasted(lab: Lab, pasted: str) -> None:
    port = free_port()
    for address in ("0.0.0.0", "::"):
        lab.start("answering", port, "--tcp", address)
    text = pasted.replace("P", str(port))
    for words in (("wait", "--until", "healthy", "--timeout", "0"), ("health",)):
        run = ultra(*words, text)
        assert run.status == 0, run.stdout + run.stderr
    assert ultra("wait", "--until", "free", "--timeout", "0", text).status == 1
    assert ultra("who", "--json", text).json["ports"][0]["verdict"] == "held"


def test_until_held_by_all_of_them(lab: Lab) -> None:
    port, other = free_port(), free_port()
    with begun(f"[::1]:{port}", f"{other}/udp", "--until", "held") as waiting:
        lab.start("answering", port, "--tcp", "127.0.0.1")
        lab.start("answering", other, "--udp", "127.0.0.1")
        assert stays(lambda: waiting.poll() is None, 1.0)
        lab.start("answering", port, "--tcp", "::1", "--bound")
        assert waiting.wait(READY_SECONDS) == 0


def test_without_until_it_waits_for_an_answer(lab: Lab) -> None:
    port = free_port()
    bound = lab.start("answering", port, "--bound")
    looks = ("--timeout", "0")
    assert ultra("wait", str(port), "--until", "held", *looks).status == 0
    for words in ((), ("--until", "up"), ("--until", "open"), ("--until", "ready")):
        run = ultra("wait", str(port), *words, *looks, "--", "echo", "no")
        assert (run.status, run.stdout) == (1, ""), words
        assert run.stderr.startswith("ultra-ports: not healthy after 0 s: ")
    bound.popen.kill()
    bound.popen.wait()
    with begun(f"http://localhost:{port}/x", "--", "echo", "up") as waiting:
        assert stays(lambda: waiting.poll() is None, 0.5)
        lab.start("answering", port)
        out, _ = waiting.communicate(timeout=READY_SECONDS)
    assert (waiting.returncode, out) == (0, "up\n")


def test_it_asks_as_the_probe_says(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "healthz").write_text("well")
    lab.command(sys.executable, "-m", "http.server", str(port), cwd=tmp_path)
    assert ultra("wait", str(port), "--probe", "/healthz").status == 0
    run = ultra("wait", str(port), "--probe", "/nothing", "--timeout", "0")
    assert (run.status, "404" in run.stderr) == (1, True)


def test_who_is_missing_is_said() -> None:
    port, other = free_port(), free_port()
    run = ultra("wait", f"[::1]:{port}", f"{other}/udp", "--until", "held", "--timeout", "0.2")
    assert run.status == 1
    assert run.stderr.splitlines() == [
        f"ultra-ports: not held after 0.2 s: [::1]:{port}/tcp is held by nobody",
        f"ultra-ports: not held after 0.2 s: {other}/udp is held by nobody",
    ]


def test_until_healthy_by_the_name_of_a_service(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    (tmp_path / "ultra-ports.toml").write_text(f"[services]\nshop = {port}\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with begun("shop", "--until", "healthy") as waiting:
        assert stays(lambda: waiting.poll() is None, 0.5)
        frozen = lab.start("answering", port, "--bound")  # held, and accepts nobody
        assert stays(lambda: waiting.poll() is None, 1.0)
        frozen.popen.terminate()
        wait_until(lambda: is_free(port), "it let go")
        lab.start("answering", port)
        assert waiting.wait(READY_SECONDS) == 0


def test_a_port_of_another_machine_counts_by_its_answer(lab: Lab) -> None:
    port = free_port()
    with begun(
        f"{socket.gethostname()}:{port}", "--until", "healthy", "--", "echo", "up"
    ) as waiting:
        assert stays(lambda: waiting.poll() is None, 0.5)
        lab.start("answering", port, "--tcp", "0.0.0.0")
        out, _ = waiting.communicate(timeout=READY_SECONDS)
    assert (waiting.returncode, out) == (0, "up\n")


def test_another_machine_that_is_not_there() -> None:
    port = free_port()
    name = socket.gethostname()
    run = ultra("wait", f"{name}:{port}", "--until", "held", "--timeout", "0")
    assert run.status == 1
    assert f"not held after 0 s: {name}:{port}/tcp does not accept: " in run.stderr
    run = ultra("wait", "nowhere.invalid:80", "--until", "held", "--timeout", "0.1")
    assert run.status == 1
    assert "nowhere.invalid:80/tcp " in run.stderr


NONSENSE = [
    (("8085", "--until", "gone"), "--until 'gone': expected free, held, healthy or mine"),
    (("8085", "--until", "free", "--probe", "/"), "--probe is asked of what is healthy"),
    (("8085", "--probe", "no probe"), "--probe: 'no probe' is no probe"),
    (("db:5432", "--probe", "/"), "is only asked for a connection"),
    (("--until", "free"), "no PORT was given"),
    (("--until", "free", "--", "true"), "no PORT was given"),
    (("8085", "--until", "free", "--"), "no command behind --"),
    (("8085,", "--until", "held"), "it is empty"),
    (("db:5432", "--until", "free"), "cannot be told from here"),
    (("db:0", "--until", "held"), "not a port from 1 to 65535"),
    (("999.1.1.1:80", "--until", "held"), "not an IPv4 address"),
    (("8085", "--until", "free", "--timeout", "-1"), "is not a time"),
    (("nosuch", "--until", "held"), "expected a PORT or the name of a service"),
    (("8085", "echo", "ok"), "(a command goes behind --)"),
]


def test_bad_input() -> None:
    refused(NONSENSE, "wait")


def test_programs_that_cannot_be_run(tmp_path: Path) -> None:
    port = str(free_port())
    missing = ultra("wait", port, "--until", "free", "-q", "--", "no-such-program")
    assert (missing.status, missing.stderr) == (
        127,
        "ultra-ports: 'no-such-program': command not found\n",
    )
    folder = ultra("wait", port, "--until", "free", "-q", "--", str(tmp_path))
    assert (folder.status, folder.stderr) == (
        126,
        f"ultra-ports: '{tmp_path}': Permission denied\n",
    )


def test_the_programs_own_dashes() -> None:
    port = str(free_port())
    run = ultra("wait", port, "--until", "free", "--", "echo", "--", "-n", "--until", "held")
    assert (run.status, run.stdout) == (0, "-- -n --until held\n")


def test_interrupted(lab: Lab) -> None:
    port = free_port()
    server = lab.start("answering", port)
    with running("wait", str(port), "--until", "free", "--", "echo", "no") as waiting:
        assert stays(lambda: waiting.poll() is None, 1.0)
        waiting.send_signal(signal.SIGINT)
        out, errors = waiting.communicate(timeout=READY_SECONDS)
    assert (waiting.returncode, out) == (130, "")
    assert "Traceback" not in errors
    assert answered_by(port) == server.pid


@pytest.mark.root
def test_a_port_that_can_never_be_proved(as_nobody: tuple[str, ...]) -> None:
    port = next(each for each in range(700, 1000) if is_free(each))
    run = ultra("wait", str(port), "--until", "free", prefix=as_nobody)
    assert run.status == 4
    assert f"{port}/tcp cannot be proved free" in run.stderr


def test_progress_on_a_terminal_only(lab: Lab) -> None:
    port = free_port()
    lab.start("answering", port)
    main, side = pty.openpty()
    try:
        with subprocess.Popen(
            [COMMAND, "wait", str(port), "--until", "free", "--timeout", "1.5"],
            stdin=side,
            stdout=side,
            stderr=side,
        ) as waiting:
            assert waiting.wait(READY_SECONDS) == 1
        said = os.read(main, 65536).decode()
    finally:
        os.close(main)
        os.close(side)
    assert f"\rwaiting until free: {port}/tcp is held, 1 s left" in said
    assert said.endswith("\r\n")


@pytest.mark.engine
def test_a_published_port_of_an_engine_elsewhere(engine_without_proxy: Engine) -> None:
    """Its own namespace is not ours: nothing is in use here, and nothing will be."""
    engine = engine_without_proxy
    port = free_port()
    with begun(str(port), "--until", "held", env=engine.env) as waiting:
        assert stays(lambda: waiting.poll() is None, 1.0)
        web = engine.publish(f"{port}:80")
        assert waiting.wait(READY_SECONDS) == 0
        with begun(str(port), "--until", "free", env=engine.env) as free:
            assert stays(lambda: free.poll() is None, 1.0)
            engine("stop", "--time", "0", web.name)
            assert free.wait(READY_SECONDS) == 0


def test_what_is_waited_for_is_one_row_of_a_narrow_terminal(tmp_path: Path) -> None:
    one, other = free_port(), free_port()
    words = ("wait", str(one), str(other), "--timeout", "2")

    status, shown = typed(*words, cwd=tmp_path, COLUMNS="40")

    assert status == 1
    rows = [row for row in shown.partition("ultra-ports:")[0].split("\r") if row.strip()]
    assert rows
    assert all(row.startswith("waiting until healthy: ") for row in rows)
    assert all(row.rstrip().endswith(" s left") for row in rows)
    assert max(map(len, rows)) < 40
