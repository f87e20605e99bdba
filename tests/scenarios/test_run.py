"""`ultra-ports run`: real programs, the ports that they find kept for them, and what is theirs."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resolver.leases.store import open_store
from resolver.settings import LEASE_SECONDS
from tests.lab.cli import COMMAND, refused, ultra
from tests.lab.ports import free_port, free_range, is_free, listens
from tests.lab.processes import answered_by, unavailable, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from resolver.leases.model import Lease
    from tests.lab.processes import Lab, Server

Shown = tuple[dict[str, str], list[str]]
SHOW = "import json, os, sys; print(json.dumps([dict(os.environ), sys.argv[1:]]))"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project and a store of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ULTRA_PORTS_STATE", str(tmp_path / "state"))
    for name in ("PORT", "API_PORT", "WEB_PORT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "state"


def running(*options: str) -> tuple[str, ...]:
    """The prefix that has a lab server run by `ultra-ports run`."""
    return (COMMAND, "run", *options, "--")


def leases(place: Path) -> tuple[Lease, ...]:
    store = open_store(os.environ, place)
    try:
        return store.leases()
    finally:
        store.close()


def shown(*options: str, arguments: Sequence[str] = (), env: dict[str, str] | None = None) -> Shown:
    run = ultra("run", *options, "--", sys.executable, "-c", SHOW, *arguments, env=env)
    assert (run.status, run.stderr.count("\n")) == (0, 1), run.stderr
    assert run.stderr.endswith(" (if the address is in use: --plain)\n")
    environment, got = json.loads(run.stdout)
    return environment, got


def status_of(server: Server) -> int:
    return server.popen.wait(timeout=20)


# --- what the program is told -----------------------------------------------------------------


def test_the_program_is_told_its_ports() -> None:
    port = free_range(2)

    environment, _ = shown("-p", f"api:{port}", "--port", f"web-app:127.0.0.2:{port + 1}")

    told = {name: environment[name] for name in environment if name.endswith(("PORT", "_URL"))}
    assert told["API_PORT"] == told["PORT"] == str(port)
    assert (environment["API_HOST"], told["API_URL"]) == ("127.0.0.1", f"http://127.0.0.1:{port}")
    assert told["WEB_APP_PORT"] == str(port + 1)
    assert environment["WEB_APP_HOST"] == "127.0.0.2"


def test_addresses_of_linked_containers_are_no_ports() -> None:
    port = free_port()
    inherited = {"API_PORT": "tcp://10.0.0.3:8085", "PORT": "1"}

    environment, _ = shown("-p", f"api:{port}", env=inherited)

    assert environment["API_PORT"] == environment["PORT"] == str(port)


def test_braces_around_a_service_are_its_port_and_all_others_stay() -> None:
    port = free_port()
    arguments = ["{api}", "--bind=0.0.0.0:{api}", "{api}{api}", "{{api}}", "${api}", "{}", "{web}"]
    arguments += ['{"port": {api}}', "{", "}", "{api", "-h", "--port", ""]

    _, got = shown("-p", f"api:{port}", arguments=arguments)

    filled = [str(port), f"--bind=0.0.0.0:{port}", f"{port}{port}", *arguments[3:7]]
    assert got == [*filled, f'{{"port": {port}}}', *arguments[8:]]


def test_without_ports_it_is_every_service_of_the_project_file(tmp_path: Path) -> None:
    port = free_range(2)
    (tmp_path / "ultra-ports.toml").write_text(
        f'[services]\nweb = {port}\ndb = {{ port = {port + 1}, variable = "PGPORT" }}\n'
    )

    environment, [argument] = shown(arguments=["{web}-{db}"])

    assert (environment["WEB_PORT"], environment["PGPORT"]) == (str(port), str(port + 1))
    assert environment["PORT"] == str(port)
    assert argument == f"{port}-{port + 1}"


def test_the_standard_streams_are_the_programs_own() -> None:
    run = ultra(
        "run", "-p", f"api:{free_port()}", "sh", "-c", "cat; echo grief >&2", stdin="some input"
    )

    assert (run.status, run.stdout) == (0, "some input")
    assert run.stderr.endswith(" (if the address is in use: --plain)\ngrief\n")


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", -9), ("kill $$", -15)]
)
def test_the_status_is_the_programs(script: str, status: int) -> None:
    assert ultra("run", "-p", f"api:{free_port()}", "--", "sh", "-c", script).status == status


def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    port = free_port()
    missing = ultra("run", "-p", f"api:{port}", "--", "no-such-program")
    file = tmp_path / "data"
    file.write_text("x")
    barred = ultra("run", "-p", f"api:{port}", "--", str(file))

    assert (missing.status, barred.status) == (127, 126)
    assert missing.stderr == "ultra-ports: 'no-such-program': command not found\n"
    assert barred.stderr == f"ultra-ports: '{file}': Permission denied\n"
    assert is_free(port)
    assert leases(tmp_path) == ()


NONSENSE: list[tuple[tuple[str, ...], str]] = [
    ((), "there is no command to run"),
    (("-p", "api:8085"), "there is no command to run"),
    (("--", "touch", "ran"), "no project file"),
    (("-p", "api:99999", "--", "touch", "ran"), "99999 is not a port"),
    (("-p", "8085", "--", "touch", "ran"), "does not begin with the name of a service"),
    (
        ("-p", "nonesuch", "--", "touch", "ran"),
        "'nonesuch': expected a PORT or the name of a service",
    ),
    (("-p", "api:1", "-p", "api:2", "--", "touch", "ran"), "api is given twice"),
    (("-p", "api:192.0.2.1:8085", "--", "touch", "ran"), "192.0.2.1"),
    (("-p", "api:8085", "--plain", "--pass-socket", "touch", "ran"), "choose one"),
    (("--no-such-option", "touch", "ran"), "--no-such-option"),
]


def test_what_makes_no_sense_starts_nothing(tmp_path: Path) -> None:
    refused(NONSENSE, "run")
    assert not (tmp_path / "ran").exists()


def test_a_privileged_port_is_not_permitted(as_nobody: tuple[str, ...], tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    run = ultra("run", "-p", "api:81", "--strict", "--", "true", prefix=as_nobody)

    assert run.status == 1
    assert "this user may not bind port 81 (privileged)" in run.stderr


# --- the port ---------------------------------------------------------------------------------


def test_the_port_is_kept_until_the_program_takes_it(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    server = lab.start("signalled", prefix=running("-p", f"api:{port}"))

    assert not is_free(port)
    report = ultra("who", str(port), "--json").port(f"{port}/tcp")
    [holder] = report["holders"]
    assert holder["state"] == "bound"
    assert any("keeps the port reserved" in fact for fact in holder["evidence"])
    assert [process["pid"] for process in holder["processes"]] == [server.pid]
    assert server.pid == server.popen.pid
    [lease] = leases(tmp_path)
    assert (lease.port, lease.service, lease.place, lease.held) == (
        port,
        "api",
        str(tmp_path),
        True,
    )
    assert lease.owner is not None
    assert lease.owner.pid == server.popen.pid

    server.popen.terminate()

    assert status_of(server) == 0
    assert is_free(port)
    assert leases(tmp_path) == ()


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "::1"])
def test_a_common_server_takes_its_port_under_the_hold(lab: Lab, address: str) -> None:
    port = free_port()
    server = lab.start("answering", port, "--tcp", address, prefix=running("-p", f"api:{port}"))

    there = "::1" if ":" in address else "127.0.0.1"
    assert answered_by(port, there) == server.pid == server.popen.pid


def test_what_the_last_run_left_is_no_obstacle(lab: Lab) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as listener:
        client = socket.create_connection(("127.0.0.1", port), timeout=5)
        listener.accept()[0].close()  # the server closes first: TIME_WAIT is on its side
        client.close()
    assert not is_free(port)

    server = lab.start("answering", port, prefix=running("-p", f"api:{port}", "--strict"))

    assert answered_by(port) == server.pid


def test_another_projects_run_gets_another_port(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    lab.start("signalled", prefix=running("-p", f"api:{port}"))
    other = tmp_path / "other"
    other.mkdir()
    inside = ("env", "-C", str(other))

    strict = ultra("run", "-p", f"api:{port}", "--strict", "--", "true", prefix=inside)
    run = ultra("run", "-p", f"api:{port}", "--", "sh", "-c", "echo $API_PORT", prefix=inside)

    assert strict.status == 1
    assert f"{port} is reserved for api of project {tmp_path.name}" in strict.stderr
    assert run.status == 0
    assert int(run.stdout) != port
    assert f"{port} is reserved for api of project {tmp_path.name}" in run.stderr


def test_a_run_inside_of_a_run(lab: Lab, tmp_path: Path) -> None:
    port = free_range(2)
    inner = (*running("-p", f"api:{port}"), *running("-p", f"web:{port + 1}"))
    server = lab.start("answering", port + 1, prefix=inner)

    assert not is_free(port)
    assert answered_by(port + 1) == server.pid
    assert {lease.port for lease in leases(tmp_path)} == {port, port + 1}

    server.popen.terminate()

    assert status_of(server) == 0
    assert server.signals() == ["SIGTERM"]
    assert leases(tmp_path) == ()
    assert is_free(port)
    assert is_free(port + 1)


def test_a_store_that_cannot_be_kept_is_said_and_does_no_harm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ULTRA_PORTS_STATE", "/dev/null/nowhere")
    run = ultra("run", "-p", f"api:{free_port()}", "--", "echo", "served")

    assert (run.status, run.stdout) == (0, "served\n")
    assert run.stderr.count("/dev/null/nowhere") == 1
    assert run.stderr.count("\n") == 2


# --- programs that cannot take a port under a hold ----------------------------------------------


@pytest.mark.parametrize(("options", "status"), [((), 1), (("--plain",), 0)])
def test_a_plain_binder_needs_its_port_let_go_and_is_told_so(
    lab: Lab, options: tuple[str, ...], status: int
) -> None:
    port = str(free_port())
    server = (sys.executable, "-S", "-m", "tests.lab.servers.plain", port, "--leave")
    run = ultra("run", *options, "-p", f"api:{port}", "--", *server, env=lab.marked())

    assert run.status == status
    assert ('"pid"' in run.stdout) is bool(options)  # it was ready
    assert ("Address already in use" in run.stderr) is not bool(options)
    assert ("in use: --plain" in run.stderr) is not bool(options)


def test_udp_is_let_go_just_before_the_start(lab: Lab) -> None:
    port = free_port()
    server = lab.start(
        "answering", port, "--udp", "127.0.0.1", prefix=running("-p", f"dns:{port}/udp")
    )

    assert answered_by(port, transport="udp") == server.pid


# --- the program is what was started ------------------------------------------------------------


def test_it_is_the_very_process_and_signals_are_as_they_were(lab: Lab) -> None:
    show = ("sh", "-c", "echo $PPID; grep -E '^(Sig(Blk|Ign)|Shd.*):' /proc/self/status")
    plain = subprocess.run(show, capture_output=True, text=True, check=True)
    run = ultra("run", "-p", f"api:{free_port()}", "--", *show, env=lab.marked())

    assert "SigIgn" in plain.stdout
    assert run.stdout == plain.stdout  # the parent, too, is the one who ran `ultra-ports run`


def test_it_gets_its_signals_itself(lab: Lab) -> None:
    server = lab.start("signalled", prefix=("nohup", *running("-p", f"api:{free_port()}")))
    assert (server.facts["ignored"], server.facts["blocked"]) == (["SIGHUP"], [])

    server.popen.send_signal(signal.SIGINT)
    wait_until(server.signals, "SIGINT is heard")
    server.popen.send_signal(signal.SIGTERM)

    assert status_of(server) == 0
    assert server.signals() == ["SIGINT", "SIGTERM"]
    assert {event["sender"] for event in server.events()} == {os.getpid()}


def test_as_the_first_process_of_a_container_it_is_the_program() -> None:
    if os.geteuid() != 0:
        unavailable("a PID namespace needs root")
    unshare = ("unshare", "--pid", "--fork", "--mount-proc")
    run = ultra("run", "-p", f"api:{free_port()}", "sh", "-c", "echo $$", prefix=unshare)

    assert (run.status, run.stdout) == (0, "1\n")


def test_where_its_process_cannot_be_seen_the_lease_has_an_end_and_the_hold_has_none(
    lab: Lab, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        unavailable("a PID namespace needs root")
    port = free_port()
    lab.start(
        "answering", port, prefix=("unshare", "--pid", "--fork", *running("-p", f"api:{port}"))
    )

    [lease] = leases(tmp_path)
    assert lease.expires_at is not None
    assert lease.expires_at - lease.created_at == LEASE_SECONDS
    assert not is_free(port)


def test_it_gets_the_hold_beside_what_it_was_given_and_nothing_else(lab: Lab) -> None:
    show = "import os; print(*(n for n in map(int, os.listdir('/proc/self/fd')) if n > 2))"
    program = (sys.executable, "-S", "-c", show)
    with socket.socket() as given:
        plain, run = (
            subprocess.run(
                [*prefix, *program],
                env={**os.environ, **lab.marked()},
                pass_fds=[given.fileno()],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for prefix in ((), running("-p", f"api:{free_port()}", "-p", f"dns:{free_port()}/udp"))
        )

    more = sorted(map(int, {*run.split()} - {*plain.split()}))
    assert len(more) == 3, "the hold of the TCP port, and the tokens of two leases"
    assert more[0] >= 10  # a script may well use 3 to 9


def test_killed_it_leaves_neither_hold_nor_lease(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    server = lab.start("signalled", prefix=running("-p", f"api:{port}"))

    server.popen.kill()

    assert status_of(server) == -signal.SIGKILL
    assert is_free(port)
    assert leases(tmp_path) == ()


def test_what_it_has_started_keeps_the_port_and_is_named(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    script = "sleep 60 >/dev/null 2>&1 & echo $!"
    run = ultra("run", "-p", f"api:{port}", "sh", "-c", script, env=lab.marked())

    assert leases(tmp_path) == ()
    [holder] = ultra("who", str(port), "--json").port(f"{port}/tcp")["holders"]
    assert holder["state"] == "bound"
    assert [process["pid"] for process in holder["processes"]] == [int(run.stdout)]
    assert ultra("resolve", str(port), "--settle", "0.3").status == 0
    assert is_free(port)


# --- the terminal -----------------------------------------------------------------------------


class Terminal:
    """An interactive shell on a terminal of its own."""

    def __init__(self, lab: Lab) -> None:
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            os.environ.update(lab.marked(), PS1="ready> ", TERM="dumb", HISTFILE="")
            os.execv("/bin/bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"])  # noqa: S606
        self.said = ""

    def types(self, text: str) -> None:
        self.said = ""
        os.write(self._master, text.encode())

    def says(self, text: str) -> str:
        """Waits until the text was printed since the last input."""
        deadline = time.monotonic() + 20
        while text not in self.said:
            readable, _, _ = select.select([self._master], [], [], deadline - time.monotonic())
            assert readable, f"no {text!r} in {self.said!r}"
            self.said += os.read(self._master, 4096).decode(errors="replace")
        return self.said

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.close(self._master)
        os.waitpid(self.pid, 0)


@pytest.fixture
def terminal(lab: Lab) -> Iterator[Terminal]:
    terminal = Terminal(lab)
    yield terminal
    terminal.close()


def test_the_terminal_is_the_programs(terminal: Terminal, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    server = (sys.executable, "-S", "-m", "tests.lab.servers.signalled", "--log", str(log))
    terminal.types(f"{COMMAND} run -p api:{port} -- {shlex.join(server)}; echo status=$?\n")
    found = re.search(r'"pid": ([0-9]+),', terminal.says('"group"'))
    assert found is not None
    pid = int(found[1])

    terminal.types("\x1a")
    terminal.says("Stopped")
    wait_until(lambda: stat(pid) == "T", "the program is stopped")
    assert not is_free(port)
    terminal.types("fg\n")
    wait_until(lambda: stat(pid) == "S", "the program goes on")
    terminal.types("\x03")
    wait_until(lambda: log.exists() and "SIGINT" in log.read_text(), "Ctrl-C is heard")
    assert not is_free(port)
    os.kill(pid, signal.SIGTERM)

    wait_until(lambda: is_free(port), "the end")
    heard = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert [each for each in heard if each != "SIGWINCH"] == ["SIGINT", "SIGTERM"]


def stat(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


# --- real servers -------------------------------------------------------------------------------

SERVING = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"served"})

def wsgi(environ, start_response):
    start_response("200 OK", [])
    return [b"served"]
"""
NODE = "require('http').createServer((_, answer) => answer.end('served')).listen({api})"
NGINX = """
daemon off; master_process on; worker_processes 2; pid {place}/nginx.pid; error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi; uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    server {{ listen {port}; location / {{ return 200 served; }} }}
}}
"""
SERVERS = {
    "http.server": (sys.executable, "-m", "http.server", "{api}"),
    "uvicorn": (sys.executable, "-m", "uvicorn", "--port", "{api}", "serving:app"),
    "gunicorn": (
        sys.executable,
        "-m",
        "gunicorn",
        "-w",
        "2",
        "-b",
        "0.0.0.0:{api}",
        "serving:wsgi",
    ),
    "node": ("node", "-e", NODE),
    "redis": ("redis-server", "--port", "{api}", "--save", ""),
    "nginx": ("nginx", "-c", "{place}/nginx.conf"),
}


@pytest.mark.parametrize("name", SERVERS)
def test_a_real_server_takes_its_port_from_itself(lab: Lab, tmp_path: Path, name: str) -> None:
    program, *arguments = SERVERS[name]
    if shutil.which(program) is None:
        unavailable(f"{program} is missing")
    port = free_port()
    tmp_path.chmod(0o755)  # nginx's workers are another user's
    (tmp_path / "serving.py").write_text(SERVING)
    (tmp_path / "index.html").write_text("served")
    (tmp_path / "nginx.conf").write_text(NGINX.format(port=port, place=tmp_path))
    arguments = [part.replace("{place}", str(tmp_path)) for part in arguments]
    server = lab.command(
        *running("-p", f"api:{port}", "--strict"), program, *arguments, cwd=tmp_path
    )

    wait_until(lambda: listens(port), f"{name} listens")
    assert name == "redis" or fetched(port) == "served"
    [lease] = leases(tmp_path)
    assert lease.owner is not None
    assert lease.owner.pid == server.pid
    holders = ultra("who", str(port), "--json").port(f"{port}/tcp")["holders"]
    assert {holder["state"] for holder in holders} == {"listening"}  # its own hold is none of them
    assert {holder["processes"][0]["pid"] for holder in holders} == {server.pid}

    assert ultra("resolve", str(port), "--settle", "0.3").status == 0

    server.wait(timeout=20)
    assert leases(tmp_path) == ()


# --- sockets ready-made -------------------------------------------------------------------------


def test_sockets_are_handed_over_as_systemd_does(lab: Lab) -> None:
    port = free_range(2)
    options = ("-p", f"api:{port}", "-p", f"dns:{port + 1}/udp", "--pass-socket")
    with socket.socket() as unrelated:
        unrelated.set_inheritable(True)
        server = lab.start("handed", prefix=running(*options))

    assert server.facts["meant"]
    assert server.facts["names"] == ["api", "dns"]
    assert server.facts["descriptors"] == [0, 1, 2, 3, 4]
    for address in ("127.0.0.1", "::1"):
        assert answered_by(port, address) == server.pid
    assert answered_by(port + 1, "::1", transport="udp") == server.pid


@pytest.mark.parametrize(
    "command",
    [
        ("-m", "uvicorn", "--fd", "3", "serving:app"),
        ("-m", "gunicorn", "--workers", "2", "serving:wsgi"),
    ],
    ids=["uvicorn", "gunicorn"],
)
def test_real_servers_take_their_sockets(lab: Lab, tmp_path: Path, command: Sequence[str]) -> None:
    pytest.importorskip(command[1])
    (tmp_path / "serving.py").write_text(SERVING)
    port = free_port()
    lab.command(*running("-p", f"api:{port}", "--pass-socket"), sys.executable, *command)

    assert fetched(port) == "served"


def fetched(port: int) -> str:
    """The body; as soon as somebody listens, be the server still starting, it is answered."""
    wait_until(lambda: listens(port), "the socket")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
        body: bytes = answer.read()
    return body.decode()


# --- what it would come to, and why it did not start ------------------------------------------


def test_a_dry_run_says_which_ports_it_would_get(tmp_path: Path) -> None:
    port, taken = free_port(), free_port()
    words = ("-p", f"api:{port}", "-p", f"web:{taken}", "--", "prog", "--port", "{web}")
    with socket.create_server(("0.0.0.0", taken)):
        told = ultra("run", "-n", "--json", *words)
        run = ultra("run", "--dry-run", *words)

    api, web = told.json["services"]
    assert (told.status, told.json["schema"], told.json["dry_run"]) == (
        0,
        "ultra-ports.run/1",
        True,
    )
    assert (api["port"], web["preferred"]) == (port, taken)
    assert web["port"] not in {port, taken}
    assert told.json["program"] == ["prog", "--port", str(web["port"])]
    assert told.json["variables"]["PORT"] == told.json["variables"]["API_PORT"] == str(port)
    first, second, last = run.stdout.splitlines()
    assert first == f"api: {port} (preferred)"
    assert second.startswith(f"web: {web['port']} (")
    assert last == f"would run: prog --port {web['port']}"
    assert leases(tmp_path) == ()
    assert is_free(port)


def test_json_says_why_it_did_not_start() -> None:
    port = free_port()
    with socket.create_server(("0.0.0.0", port)):
        run = ultra("run", "--json", "--strict", "-p", f"api:{port}", "--", "true")
    assert (run.status, run.json["exit_status"], run.json["services"]) == (1, 1, [])
    assert run.json["refusal"].startswith(f"api: {port} is held by ")
    assert run.json["refusal"] in run.stderr

    run = ultra("run", "--json", "-p", f"api:{free_port()}", "--", "no-such-program")
    assert (run.status, run.json["exit_status"]) == (127, 127)
    assert run.json["program"] == ["no-such-program"]

    run = ultra("run", "--json", "-p", f"api:{free_port()}", "--", "echo", "{api}")
    assert (run.status, run.stdout.strip().isdigit()) == (0, True), "stdout is the program's"
