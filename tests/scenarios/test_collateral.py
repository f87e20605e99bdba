"""What would be lost with a holder is known before anything is signalled; somebody else's stays."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from msgspec.structs import replace

from resolver import api, portspec
from resolver.gather import exposure
from resolver.gather.processes import describe
from resolver.host.identity import identify
from resolver.model import (
    Binding,
    Holder,
    KillStep,
    Pid,
    Policy,
    PortNumber,
    Result,
    SocketState,
    Transport,
)
from resolver.pipeline import diagnose, prove
from resolver.strategies.kill import kill
from tests.lab import known
from tests.lab.cli import ultra
from tests.lab.known import ECHO, WEB_TERMINAL
from tests.lab.npm import install
from tests.lab.ports import free_port, is_free, listens
from tests.lab.postgres import Postgres
from tests.lab.processes import alive, unavailable, until_served, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.cli import Run
    from tests.lab.processes import Lab

QUICK = ("--settle", "0.3", "--grace", "2")
# A kernel that serves a port from a cell, as `jupyter_client` starts it
NOTEBOOK = """\
import sys, jupyter_client
manager = jupyter_client.KernelManager()
manager.start_kernel()
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=60)
client.execute_interactive(
    "import threading, http.server as h, os\\n"
    f"s = h.ThreadingHTTPServer(('127.0.0.1', {sys.argv[1]}), h.SimpleHTTPRequestHandler)\\n"
    "threading.Thread(target=s.serve_forever, daemon=True).start()", timeout=20)
sys.stdin.read()
"""
# It lets a daemon inherit its listener, and ends
CARELESS = """\
import socket, subprocess, sys
listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))
listener.set_inheritable(True)
subprocess.Popen([sys.executable, *sys.argv[2:]], close_fds=False)
"""


def resolve(port: int, *options: str) -> Run:
    return ultra("resolve", "--json", *QUICK, *options, str(port))


def refused(port: int, kind: str) -> dict[str, Any]:
    """Asserts that nothing was touched, and that the loss is said everywhere; the loss."""
    run = resolve(port)
    [report] = run.json["ports"]
    assert (run.status, report["verdict"]) == (3, "refused"), run.stdout
    assert "would also end: " in report["reason"]
    [holder] = report["holders"]
    insisting = [["ultra-ports", "resolve", "--accept-loss", f"{port}/tcp"]]
    narrower = holder["step"]["commands"] != insisting
    assert ("--accept-loss goes on all the same" in report["reason"]) is narrower
    found = [each for each in holder["collateral"] if each["degree"] == "refused"]
    assert kind in [each["kind"] for each in found]
    loss: dict[str, Any] = next(each for each in found if each["kind"] == kind)
    assert loss["text"] in report["reason"]
    who = ultra("who", str(port))
    assert who.status == 0
    assert f"would also end: {loss['text']}" in who.stdout
    last = who.stdout.splitlines()[-1]
    assert last.startswith("  to free it: ")
    assert narrower or last == f"  to free it: {shlex.join(*insisting)}   # ends that, too"
    assert not is_free(port)
    return loss


def accepted(port: int) -> None:
    """Goes on all the same, and gracefully."""
    run = resolve(port, "--accept-loss")
    assert run.status == 0, run.stdout
    [holder, *_] = run.port(f"{port}/tcp")["holders"]
    assert "SIGKILL" not in " ".join(holder["outcome"]["actions"])
    wait_until(lambda: not listens(port), "nobody listens any more")


CLUSTER = """
const cluster = require("cluster"), http = require("http");
if (cluster.isPrimary) { for (let i = 0; i < 3; i++) cluster.fork(); }
else { http.createServer((_, answer) => answer.end("x")).listen(+process.argv[2], "127.0.0.1"); }
"""


def test_the_workers_of_a_node_cluster(lab: Lab, tmp_path: Path) -> None:
    """They have no socket of their own: the primary passes connections on."""
    port = free_port()
    (tmp_path / "cluster.js").write_text(CLUSTER)
    node = lab.command(known.real("node"), str(tmp_path / "cluster.js"), str(port))
    wait_until(lambda: len(psutil.Process(node.pid).children()) == 3, "it has its workers")
    until_served(port)
    workers = [each.pid for each in psutil.Process(node.pid).children()]

    for command in (("who",), ("resolve", "-n")):
        assert "goes down with it: 3 workers" in ultra(*command, str(port)).stdout
    run = ultra("resolve", *QUICK, str(port))

    assert "went down with it: 3 workers" in run.stdout
    wait_until(lambda: not any(map(alive, workers)), "the workers have ended, too")


def test_a_virtual_machine(lab: Lab, tmp_path: Path) -> None:
    """What is told takes one forward off it, and the machine runs on."""
    port = free_port()
    guest = known.run(lab, known.qemu(port, tmp_path))
    until_served(port)

    loss = refused(port, "machine")

    [command] = loss["commands"]
    assert command == ["hostfwd_remove", f"tcp:127.0.0.1:{port}"]
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.connect(str(tmp_path / "monitor"))
        monitor.sendall(" ".join(command).encode() + b"\n")
        wait_until(lambda: not listens(port), "the forward is gone")
    assert alive(guest.pid)


def test_a_terminal_session(lab: Lab) -> None:
    port = free_port()
    lab.command(sys.executable, "-c", WEB_TERMINAL, str(port))
    until_served(port)

    loss = refused(port, "session")

    assert "sh " in loss["text"]
    accepted(port)


def test_a_pty_that_nobody_uses_is_no_session(lab: Lab) -> None:
    port = free_port()
    code = (
        "import os, socket, sys; os.openpty();"
        "s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); s.accept()"
    )
    lab.command(sys.executable, "-c", code, str(port))
    until_served(port)

    assert resolve(port).status == 0


def test_the_kernel_of_a_notebook(lab: Lab) -> None:
    port = free_port()
    lab.command("sh", "-c", f'sleep 600 | "{sys.executable}" -c "$0" {port}', NOTEBOOK)
    until_served(port)

    loss = refused(port, "state")

    assert "notebook kernel" in loss["text"]
    accepted(port)


def test_a_process_under_a_debugger(lab: Lab) -> None:
    if os.geteuid() != 0:
        unavailable("ptrace(2) of another process may need root")
    port, own = free_port(), free_port()
    server = lab.start("answering", port)
    attach = (known.real("gdbserver"), "--attach", f"127.0.0.1:{own}", str(server.pid))
    debugger = lab.command(*attach)
    traced = f"TracerPid:\t{debugger.pid}\n"
    status = Path(f"/proc/{server.pid}/status")

    wait_until(lambda: traced in status.read_text(encoding="utf-8"), "the debugger is attached")
    loss = refused(port, "state")
    assert str(debugger.pid) in loss["text"]
    assert server.alive


@pytest.mark.root
def test_a_network_interface(lab: Lab) -> None:
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        unavailable("there is no /dev/net/tun for this user")
    port = free_port()
    code = (
        "import fcntl, os, socket, struct, sys; tun = os.open('/dev/net/tun', os.O_RDWR);"
        "fcntl.ioctl(tun, 0x400454CA, struct.pack('16sH', b'lab%d', 0x1001));"
        "s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); s.accept()"
    )
    lab.command(sys.executable, "-c", code, str(port))
    until_served(port)

    assert "the network interface lab" in refused(port, "network")["text"]
    accepted(port)


@pytest.mark.parametrize("runner", ["concurrently", "run-p", "run-p's file", "pnpm", "parallel"])
def test_siblings_that_a_runner_ends_too(lab: Lab, tmp_path: Path, runner: str) -> None:
    port, other = free_port(), free_port()
    serve = f"{sys.executable} -m http.server --bind 127.0.0.1"
    both = (f"{serve} {port}", f"{serve} {other}")
    if runner == "concurrently":
        lab.command(str(install("concurrently")), "-k", *both)
    elif runner == "parallel":
        lab.command(known.real("parallel"), "--halt", "now,done=1", ":::", *both)
    elif runner == "pnpm":
        (tmp_path / "pnpm-workspace.yaml").write_text("packages: [web, api]\n")
        for name, script in zip(("web", "api"), both, strict=True):
            (tmp_path / name).mkdir()
            package = {"name": name, "scripts": {"dev": script}}
            (tmp_path / name / "package.json").write_text(json.dumps(package))
        lab.command(str(install("pnpm@10")), "--filter", "*", "run", "dev", cwd=tmp_path)
    else:
        scripts = {"scripts": dict(zip(("web", "api"), both, strict=True))}
        (tmp_path / "package.json").write_text(json.dumps(scripts))
        program = install("npm-run-all", "run-p")
        by_file = ("node", str(program.resolve()))  # as pnpm's shims start it
        words = (str(program),) if runner == "run-p" else by_file
        lab.command(*words, "web", "api", cwd=tmp_path)
    until_served(port)
    until_served(other)

    loss = refused(port, "siblings")

    assert f"on {other}" in loss["text"]
    assert not is_free(other)
    accepted(port)
    wait_until(lambda: not listens(other), "the runner ends the other, as it was said")


@pytest.mark.parametrize("runner", ["concurrently", "goreman"])
def test_a_runner_that_leaves_the_others_alone_is_no_reason(
    lab: Lab, tmp_path: Path, runner: str
) -> None:
    """A stand-in for goreman, which is told to leave by an option."""
    port, other = free_port(), free_port()
    serve = f"{sys.executable} -m http.server --bind 127.0.0.1"
    if runner == "concurrently":
        lab.command(str(install(runner)), f"{serve} {port}", f"{serve} {other}")
    else:
        program = tmp_path / runner
        program.write_text(f"#!/bin/sh\n{serve} {port} & {serve} {other} & wait\n")
        program.chmod(0o755)
        lab.command(str(program), "start")
    until_served(port)
    until_served(other)

    assert resolve(port).status == 0
    assert not is_free(other)


@pytest.mark.parametrize(("wait", "status"), [("wait -n", 3), ("wait", 0)])
def test_siblings_in_a_script(lab: Lab, tmp_path: Path, wait: str, status: int) -> None:
    port, other = free_port(), free_port()
    serve = f"{sys.executable} -m http.server --bind 127.0.0.1"
    script = f"{serve} {port} & {serve} {other} &\n{wait}\nkill %1 %2\n"
    (tmp_path / "dev.sh").write_text(script, encoding="utf-8")
    lab.command("bash", "dev.sh")
    until_served(port)
    until_served(other)

    assert resolve(port).status == status
    assert listens(other)


@pytest.mark.native
def test_a_port_that_the_holder_only_inherited(lab: Lab) -> None:
    port, other = free_port(), free_port()
    lab.command(
        sys.executable, "-c", CARELESS, str(port),
        "-m", "http.server", "--bind", "127.0.0.1", str(other),
    )  # fmt: skip
    until_served(other)

    loss = refused(port, "inherited")

    assert f"{other}/tcp" in loss["text"]
    assert not is_free(other)
    assert f"what it serves instead: {other}/tcp" in ultra("who", str(port)).stdout
    served = ultra("resolve", *QUICK, "--dry-run", "--json", str(other))
    assert served.json["ports"][0]["holders"][0]["step"]["kind"] == "kill"  # by its own port
    accepted(port)


def test_what_a_holder_that_only_inherited_makes(lab: Lab, tmp_path: Path) -> None:
    """A copy that a server had started: a log that it appends to is none."""
    for name, mode, touched in (("archive.tar", "xb", False), ("server.log", "ab", True)):
        port = free_port()
        code = f"import time; f = open({str(tmp_path / name)!r}, {mode!r}); time.sleep(600)"
        lab.command(sys.executable, "-c", CARELESS, str(port), "-c", code)
        wait_until((tmp_path / name).exists, "it has begun")

        if touched:
            assert resolve(port).status == 0
        else:
            loss = refused(port, "inherited")
            assert loss["text"] == f"what it writes: {tmp_path / name}"


def psql(server: Postgres, *statements: str, port: int = 0) -> subprocess.Popen[bytes]:
    """A client that sends one statement after the other, and then waits."""
    words = ["psql", "-h", "127.0.0.1", "-p", str(port or server.port), "-U", "postgres", "-q"]
    client = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert client.stdin is not None
    client.stdin.write("\n".join(statements).encode() + b"\n")
    client.stdin.flush()
    return client


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        server.start()
        yield server


def connected(server: Postgres, title: str) -> None:
    def found() -> bool:
        backends = psutil.Process(server.pid).children()
        return any(title in " ".join(each.cmdline()) for each in backends)

    wait_until(found, title)


def test_postgresql_is_shut_down_its_own_way(postgres: Postgres) -> None:
    with psql(postgres, "select pg_sleep(600);") as client:
        connected(postgres, "SELECT")
        run = resolve(postgres.port)
        client.kill()

    assert run.status == 0, run.stdout
    [holder, *_] = run.port(f"{postgres.port}/tcp")["holders"]
    assert holder["outcome"]["actions"] == [f"SIGINT to postgres {postgres.pid}"]
    [data] = [each for each in holder["collateral"] if each["kind"] == "data"]
    assert f"psql {client.pid}" in data["text"]
    assert "database system is shut down" in postgres.log()


def test_postgresql_in_the_middle_of_a_transaction(postgres: Postgres) -> None:
    with psql(postgres, "begin;", "create table t (i int);") as client:
        connected(postgres, "idle in transaction")
        loss = refused(postgres.port, "data")
        assert "in the middle of a transaction" in loss["text"]
        assert loss["command_lines"][0].startswith("pg_ctl ")
        accepted(postgres.port)
        client.kill()
    assert "database system is shut down" in postgres.log()


def test_a_pooler_waits_for_the_transactions_that_go_through_it(
    postgres: Postgres, lab: Lab, tmp_path: Path
) -> None:
    port, log = free_port(), tmp_path / "log"
    settings = f"listen_addr=127.0.0.1\nlisten_port={port}\nunix_socket_dir=\nauth_type=any\n"
    databases = f"[databases]\n* = host=127.0.0.1 port={postgres.port} user=postgres\n"
    (tmp_path / "ini").write_text(
        f"{databases}[pgbouncer]\n{settings}pool_mode=transaction\nuser=nobody\n"
    )
    pooler = known.real("pgbouncer")
    lab.command("sh", "-c", f"exec {pooler} {tmp_path}/ini 2>{log}")
    until_served(port)
    with psql(postgres, "begin;", "create table t (i int);", port=port) as client:
        connected(postgres, "idle in transaction")
        with ThreadPoolExecutor() as beside:
            freeing = beside.submit(resolve, port)
            wait_until(lambda: "got SIG" in log.read_text(), "it is asked to end", 60)
            assert client.stdin is not None
            client.stdin.write(b"commit;\n")
            client.stdin.flush()
            assert freeing.result().status == 0
        client.kill()
    words = ["psql", "-h", "127.0.0.1", "-p", str(postgres.port), "-U", "postgres"]
    subprocess.run([*words, "-c", "select from t"], check=True, stdout=subprocess.DEVNULL)


def test_a_database_is_never_killed_by_itself(lab: Lab) -> None:
    """A stand-in with Redis' name, which ignores what it is asked; its patience is cut short."""
    port = free_port()
    server = lab.start("answering", port, "--name", "redis-server", "--ignore")
    effects = api.effects(None)
    policy = Policy(grace_seconds=0.3, settle_seconds=0.0)
    requests = portspec.parse([str(port)])
    diagnosis = diagnose(requests, prove(requests, effects), policy, effects)
    [step] = diagnosis.plan.steps
    assert isinstance(step, KillStep)
    assert (step.shutdown, step.patience_seconds) == ("SIGTERM", 60.0)

    outcome = kill(replace(step, patience_seconds=0.0), policy, effects)

    assert outcome.result is Result.FAILED
    assert "Redis is not killed without --force" in outcome.reason
    assert outcome.actions == (f"SIGTERM to redis-server {server.pid}",)
    assert server.alive
    assert ultra("resolve", "--force", *QUICK, str(port)).status == 0


def test_a_plan_goes_on_where_its_maker_accepted_the_loss(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    server = lab.start("answering", port, "--name", "adb")
    plan = tmp_path / "plan.json"
    words = ("--plan-out", str(plan), str(port))
    assert ultra("resolve", *words).status == 3
    assert ultra("apply", str(plan)).status == 3
    assert server.alive
    assert ultra("resolve", "--accept-loss", *words).status == 0

    assert ultra("apply", *QUICK, str(plan)).status == 0
    assert not server.alive


@pytest.mark.parametrize(("address", "reachable"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_who_says_from_where_a_port_is_reached(lab: Lab, address: str, *, reachable: bool) -> None:
    port = free_port()
    lab.start("answering", port, "--tcp", address)

    notes = ultra("who", "--json", str(port)).port(f"{port}/tcp")["notes"]

    assert (f"reachable from other machines, on {address}" in notes) is reachable


def test_who_says_how_old_a_holder_is() -> None:
    """The oldest process of this session stands in for a server that has run for a while."""
    now = time.time()
    old = min(psutil.process_iter(), key=lambda each: each.create_time())
    assert now - old.create_time() > 60
    [process] = [each for each in describe([identify(Pid(old.pid))]) if each.pid == old.pid]
    holder = Holder(Binding(Transport.TCP, "::1", PortNumber(1)), SocketState.BOUND, (process,))

    [line] = exposure.remarks([holder])

    assert re.fullmatch(rf"{re.escape(str(process))} has run for \d+ (minute|hour|day)s?", line)


def register(lab: Lab, folder: Path, name: str) -> int:
    """A stand-in: a Python with the name of a register."""
    port = free_port()
    (folder / name).symlink_to(os.path.realpath(sys.executable))
    lab.command(str(folder / name), "-c", ECHO, str(port))
    until_served(port)
    return port


def test_who_is_registered_is_named(lab: Lab, tmp_path: Path) -> None:
    port = register(lab, tmp_path, "epmd")
    with socket.create_connection(("127.0.0.1", port)) as node:
        node.sendall(b"I am a node\n")
        assert node.recv(64)

        loss = refused(port, "registrants")

        assert f" {os.getpid()})" in loss["text"]


@pytest.mark.parametrize("says", [b"", b"no line's end"])
def test_whoever_only_knocks_is_no_registrant(lab: Lab, tmp_path: Path, says: bytes) -> None:
    """A port scanner, or somebody who wants the tool to refuse."""
    port = register(lab, tmp_path, "epmd")
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(says)

        run = resolve(port)

    assert run.status == 0, run.stdout


def test_the_clients_of_a_broker_are_said(lab: Lab, tmp_path: Path) -> None:
    """They go down with it by its design, as a database's do."""
    port = register(lab, tmp_path, "mosquitto")
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"subscribe\n")
        assert client.recv(64)

        run = resolve(port)

    assert run.status == 0, run.stdout
    [holder, *_] = run.port(f"{port}/tcp")["holders"]
    [loss] = holder["collateral"]
    assert (loss["kind"], loss["degree"]) == ("data", "mentioned")
    assert f" {os.getpid()})" in loss["text"]
