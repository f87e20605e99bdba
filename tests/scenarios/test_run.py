"""`ultra-ports run`: a real child on a real terminal, its port, its signals and its status."""

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
import sys
import time
import urllib.request
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resolver.leases.store import open_store
from tests.lab.cli import COMMAND, ultra
from tests.lab.ports import free_port, free_range, is_free
from tests.lab.processes import alive, answered_by, unavailable, wait_until

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


@pytest.fixture
def alone() -> tuple[str, ...]:
    """A command that runs another where nobody else's sockets are: in a network of its own."""
    unshare = shutil.which("unshare")
    if unshare is None:
        unavailable("unshare(1) is missing")
    prefix = (unshare, "--net") if os.geteuid() == 0 else (unshare, "--map-root-user", "--net")
    if ultra("--version", prefix=prefix).status != 0:
        unavailable("this user may not make a network namespace")
    return prefix


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
    assert (run.status, run.stderr) == (0, "")
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

    assert (run.status, run.stdout, run.stderr) == (0, "some input", "grief\n")


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill $$", 143)]
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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "there is no command to run"),
        (("-p", "api:8085"), "there is no command to run"),
        (("--", "touch", "ran"), "no project file"),
        (("-p", "api:99999", "--", "touch", "ran"), "99999 is not a port"),
        (("-p", "8085", "--", "touch", "ran"), "does not begin with the name of a service"),
        (("-p", "nonesuch", "--", "touch", "ran"), "'nonesuch' is no service"),
        (("-p", "api:1", "-p", "api:2", "--", "touch", "ran"), "api is given twice"),
        (("-p", "api:192.0.2.1:8085", "--", "touch", "ran"), "192.0.2.1"),
        (("-p", "api:8085", "--plain", "--pass-socket", "touch", "ran"), "choose one"),
        (("--no-such-option", "touch", "ran"), "--no-such-option"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_makes_no_sense_starts_nothing(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    run = ultra("run", *arguments)

    assert run.status == 2
    assert said in run.stderr
    assert run.stderr.count("\n") == 1
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
    assert [process["pid"] for process in holder["processes"]] == [server.popen.pid]
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
    assert answered_by(port, there) == server.pid != server.popen.pid


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
    assert run.stderr.count("/dev/null/nowhere") == run.stderr.count("\n") == 1


# --- programs that cannot take a port under a hold ----------------------------------------------


def plain(*options: str, log: Path) -> tuple[str, ...]:
    port = str(free_port())
    server = (sys.executable, "-S", "-m", "tests.lab.servers.plain", port, "--leave")
    return ("run", *options, "-p", f"api:{port}", "--", *server, "--log", str(log))


def starts(log: Path) -> int:
    return log.read_text(encoding="utf-8").count('"start"')


def test_a_plain_binder_is_started_again_without_the_hold(
    lab: Lab, alone: tuple[str, ...], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    run = ultra(*plain("-v", log=log), prefix=alone, env=lab.marked())

    assert starts(log) == 2
    assert '"pid"' in run.stdout, run.stderr  # it was ready
    assert "refused a port that is held for it: starting it again" in run.stderr


def test_a_plain_binder_that_is_known_starts_once(
    lab: Lab, alone: tuple[str, ...], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    run = ultra(*plain("--plain", "-v", log=log), prefix=alone, env=lab.marked())

    assert starts(log) == 1
    assert '"pid"' in run.stdout
    assert "just before the start" in run.stderr


def test_who_wants_one_start_gets_one(lab: Lab, alone: tuple[str, ...], tmp_path: Path) -> None:
    log = tmp_path / "log"
    run = ultra(*plain("--once", log=log), prefix=alone, env=lab.marked())

    assert (run.status, starts(log)) == (1, 1)


HAD_ITS_PORT = """
import socket, sys
with open(sys.argv[1], "a") as log:
    log.write('"start"')
unused = socket.socket()
server = socket.create_server(("0.0.0.0", int(sys.argv[2])))
server.close()
unused.close()
sys.exit(3)
"""


def test_a_failure_of_a_server_that_had_its_port_is_its_own(
    alone: tuple[str, ...], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    server = (sys.executable, "-c", HAD_ITS_PORT, str(log), "{api}")
    run = ultra("run", "-p", f"api:{free_port()}", "--", *server, prefix=alone)

    assert (run.status, starts(log)) == (3, 1)


def test_a_program_that_fails_without_a_socket_runs_once(
    alone: tuple[str, ...], tmp_path: Path
) -> None:
    script = 'echo \'"start"\' >>"$0"; exit 1'
    run = ultra(
        *("run", "-p", f"api:{free_port()}", "sh", "-c", script, str(tmp_path / "log")),
        prefix=alone,
    )

    assert (run.status, starts(tmp_path / "log"), run.stderr) == (1, 1, "")


def test_udp_is_let_go_just_before_the_start(lab: Lab) -> None:
    port = free_port()
    server = lab.start(
        "answering", port, "--udp", "127.0.0.1", prefix=running("-p", f"dns:{port}/udp")
    )

    assert answered_by(port, transport="udp") == server.pid


# --- signals ----------------------------------------------------------------------------------


def test_signals_are_passed_on_once(lab: Lab) -> None:
    server = lab.start("signalled", prefix=running("-p", f"api:{free_port()}"))
    assert (server.facts["ignored"], server.facts["blocked"]) == ([], [])
    assert server.facts["group"] == os.getpgid(server.popen.pid)
    names = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGTERM"]

    for count, name in enumerate(names, 1):
        server.popen.send_signal(signal.Signals[name])
        wait_until(partial(heard_all, server.log, count), name)

    assert status_of(server) == 0
    assert server.signals() == names
    assert {event["sender"] for event in server.events()} == {server.popen.pid}


def test_a_program_that_signals_its_own_group_hears_it_once(lab: Lab) -> None:
    script = "trap 'echo >>\"$0\"' TERM; kill -TERM 0; sleep 0.2; exit 5"
    run = ultra(
        *("run", "-p", f"api:{free_port()}", "sh", "-c", script, "heard"),
        prefix=("setsid", "--wait"),
        env=lab.marked(),
    )

    assert run.status == 5
    assert Path("heard").read_text(encoding="utf-8") == "\n"


def test_what_is_ignored_here_is_not_passed_on(lab: Lab) -> None:
    server = lab.start("signalled", prefix=("nohup", *running("-p", f"api:{free_port()}")))
    assert server.facts["ignored"] == ["SIGHUP"]

    server.popen.send_signal(signal.SIGHUP)
    server.popen.send_signal(signal.SIGTERM)

    assert status_of(server) == 0
    assert server.signals() == ["SIGTERM"]


def test_a_caller_that_ignores_its_children_hides_no_status() -> None:
    ignoring = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
    prefix = (sys.executable, "-c", f"{ignoring}; os.execv(sys.argv[1], sys.argv[1:])")

    run = ultra("run", "-p", f"api:{free_port()}", "sh", "-c", "exit 7", prefix=prefix)

    assert run.status == 7


def test_killed_it_leaves_neither_hold_nor_program_nor_lease(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    server = lab.start("signalled", prefix=running("-p", f"api:{port}"))

    server.popen.kill()

    assert status_of(server) == -signal.SIGKILL
    wait_until(lambda: not alive(server.pid), "the program has ended")
    assert server.signals() == ["SIGTERM"]
    assert is_free(port)
    assert leases(tmp_path) == ()


def test_a_frozen_program_keeps_its_port_and_hears_later(lab: Lab) -> None:
    port = free_port()
    server = lab.start("signalled", prefix=running("-p", f"api:{port}"))
    os.kill(server.pid, signal.SIGSTOP)

    server.popen.send_signal(signal.SIGUSR1)
    server.popen.send_signal(signal.SIGTERM)

    wait_until(lambda: "T" in stat(server.pid), "it is frozen")
    assert server.popen.poll() is None
    assert not is_free(port)
    os.kill(server.pid, signal.SIGCONT)
    assert status_of(server) == 0
    assert sorted(server.signals()) == ["SIGTERM", "SIGUSR1"]


def test_a_frozen_program_does_not_inherit_the_hold(lab: Lab) -> None:
    port = free_port()
    server = lab.start("signalled", prefix=running("-p", f"api:{port}"))
    os.kill(server.pid, signal.SIGSTOP)

    server.popen.kill()

    status_of(server)
    assert alive(server.pid)
    assert is_free(port)


def test_as_the_first_process_of_a_container_it_reaps_orphans(lab: Lab) -> None:
    if os.geteuid() != 0:
        unavailable("a PID namespace needs root")
    script = """
(sleep 0.01 & exec sleep 0.001) &
wait
for attempt in $(seq 200); do
    left=$(cat /proc/[0-9]*/stat | awk '$4 == 1 && $1 != 1' | grep -vc '(sh)')
    [ "$left" = 0 ] && exit 9
    sleep 0.02
done
exit 1
"""
    run = ultra(
        *("run", "-p", f"api:{free_port()}", "sh", "-c", script),
        prefix=("unshare", "--pid", "--fork", "--mount-proc"),
        env=lab.marked(),
    )

    assert run.status == 9, run.stderr


def stat(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


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


def typed(port: int, *program: str) -> str:
    return f"{COMMAND} run --once -p api:{port} -- {shlex.join(program)}; echo status=$?\n"


def signalled(log: Path) -> tuple[str, ...]:
    return (sys.executable, "-S", "-m", "tests.lab.servers.signalled", "--log", str(log))


def heard(log: Path) -> list[str]:
    events = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return [json.loads(event)["event"] for event in events]


def heard_all(log: Path, count: int) -> bool:
    return len(heard(log)) >= count


def ready(terminal: Terminal) -> int:
    found = re.search(r'"pid": ([0-9]+),', terminal.says('"group"'))
    assert found is not None
    return int(found[1])


def test_ctrl_c_reaches_the_program_once(terminal: Terminal, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    terminal.types(typed(port, *signalled(log)))
    pid = ready(terminal)

    for count in (1, 2):
        terminal.types("\x03")
        wait_until(partial(heard_all, log, count), "Ctrl-C is heard")
    assert not is_free(port)  # the program did not end, and neither did the hold
    os.kill(pid, signal.SIGTERM)

    assert "status=0" in terminal.says("status=0")
    assert heard(log) == ["SIGINT", "SIGINT", "SIGTERM"]
    assert is_free(port)


def test_ctrl_z_stops_both_and_fg_wakes_both(terminal: Terminal, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    terminal.types(typed(port, *signalled(log)))
    pid = ready(terminal)

    for _ in range(2):
        terminal.types("\x1a")
        terminal.says("Stopped")
        wait_until(lambda: stat(pid) == "T", "the program is stopped")
        assert not is_free(port)
        terminal.types("fg\n")
        wait_until(lambda: stat(pid) == "S", "the program goes on")
    before = len(heard(log))
    terminal.types("\x03")
    wait_until(lambda: len(heard(log)) > before, "Ctrl-C is heard")
    os.kill(pid, signal.SIGTERM)

    wait_until(lambda: is_free(port), "the end")
    assert heard(log)[-2:] == ["SIGINT", "SIGTERM"]


def test_a_program_that_stops_itself_gives_the_terminal_back(terminal: Terminal) -> None:
    stopping = "import os, signal; os.kill(os.getpid(), signal.SIGTSTP); print('back', 2 + 3)"
    terminal.types(typed(free_port(), sys.executable, "-S", "-c", stopping))
    terminal.says("Stopped")
    terminal.types("fg\n")
    terminal.says("back 5")


def test_a_shell_has_job_control(terminal: Terminal) -> None:
    terminal.types(typed(free_port(), "bash", "--norc", "--noediting", "-i"))
    terminal.says("ready> ")
    terminal.types("sh -c 'echo $((6 * 7)); exec sleep 60'\n")
    terminal.says("42")
    terminal.types("\x1a")
    terminal.says("Stopped")
    terminal.types("kill %1; fg; echo $((9 * 9))\n")
    terminal.says("81")
    terminal.types("exit 3\n")
    terminal.says("status=3")


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


SERVING = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"served"})

def wsgi(environ, start_response):
    start_response("200 OK", [])
    return [b"served"]
"""


def fetched(port: int) -> str:
    """The body; as soon as somebody listens, be the server still starting, it is answered."""
    wait_until(lambda: listens(port), "the socket")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
        body: bytes = answer.read()
    return body.decode()


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
