"""Root asks about a stranger's port, and he lies: nothing of his is run, opened or believed.

The strangers are real processes of the user nobody, and of a user id without a name; the command is
run by root. What nobody could do by himself is no harm: a program that runs as nobody, without
root's groups, environment, session or descriptors.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.cli import COMMAND, Run, holder, ultra
from tests.lab.ports import free_port, listens
from tests.lab.processes import answered_by, stays, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.engine import Engine
    from tests.lab.processes import Lab, Server

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("as_nobody")]

NOBODY, NAMELESS = 65534, 54321
LIMIT_SECONDS = 25.0
DETACHED = ("setsid", "--fork")  # not below the shell that root types into


@pytest.fixture
def den() -> Iterator[Path]:
    """A stranger's folder, in a place where everybody may have one."""
    folder = Path(tempfile.mkdtemp(prefix="den"))
    os.chown(folder, NOBODY, NOBODY)
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def becoming(uid: int) -> tuple[str, ...]:
    unmeasured = ("env", "-u", "COVERAGE_PROCESS_START", "-u", "COVERAGE_PROCESS_CONFIG")
    return (*unmeasured, "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups")


def pretend(
    lab: Lab, name: str, folder: Path, port: int, *more: str, uid: int = NOBODY, **variables: str
) -> Server:
    """A stranger's process called `name` in `folder`, above a server on the port."""
    given = [word for each in variables.items() for word in ("--variable", "=".join(each))]
    words = ("--name", name, "--folder", str(folder), *given, str(port), *more)
    return lab.start("pretending", *words, prefix=(*becoming(uid), *DETACHED), log=False)


def write(path: Path, text: str, mode: int = 0o755, uid: int = NOBODY) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    os.chown(path, uid, uid)
    return path


def program(path: Path, proof: Path, uid: int = NOBODY) -> Path:
    """A stranger's program that leaves a proof of who ran it."""
    return write(path, f"#!/bin/sh\nid >>{proof}\nexit 0\n", uid=uid)


def asked(*arguments: str, **options: object) -> Run:
    """What root's command says, in time."""
    begun = time.monotonic()
    run = ultra(*arguments, timeout=LIMIT_SECONDS * 2, **options)  # type: ignore[arg-type]
    assert time.monotonic() - begun < LIMIT_SECONDS
    return run


def never_as_root(proof: Path) -> None:
    """Whatever was run was run as the stranger himself, without a group of root's."""
    said = proof.read_text(encoding="utf-8") if proof.exists() else ""
    assert all(line.startswith("uid=65534(nobody)") for line in said.splitlines()), said
    assert "0(root)" not in said


@pytest.mark.supervisord
@pytest.mark.parametrize("uid", [NOBODY, NAMELESS])
def test_a_strangers_supervisord_runs_nothing_as_root(lab: Lab, den: Path, uid: int) -> None:
    """A `[ctlplugin:x]` section loads any callable into supervisorctl."""
    port, proof = free_port(), den / "proof"
    plugin = f"[ctlplugin:x]\nsupervisor.ctl_factory = pydoc:pipepager\ncmd = id >>{proof}\n"
    file = write(den / "x.conf", f"[supervisorctl]\nserverurl=http://127.0.0.1:1\n{plugin}")
    pretend(lab, "supervisord", den, port, "-c", str(file), uid=uid, SUPERVISOR_PROCESS_NAME="web")

    run = asked("who", "--json", str(port))

    never_as_root(proof)
    found = holder(run, port)
    assert (found["kind"], found["confidence"]) == ("service", "suspected")
    user = "nobody" if uid == NOBODY else "'#54321'"
    (command,) = found["step"]["command_lines"]
    assert command == f"sudo -u {user} supervisorctl -c {file} stop web:web"


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        ("s6-supervise", "s6-svstat"),
        ("runsv", "sv"),
        ("supervise", "svstat"),
        ("circusd", "circusctl"),
        ("supervisord", "supervisorctl"),
        ("PM2 v5.0.0: God", "pm2"),
        ("monit", "monit"),
        ("process-compose", "process-compose"),
    ],
)
def test_programs_beside_a_stranger_and_in_his_folders_are_not_run(
    lab: Lab, den: Path, name: str, tool: str
) -> None:
    """Neither from beside his executable, nor by a link of his, nor where PATH has his folder."""
    port, proof = free_port(), den / "proof"
    copy = write(den / "python3", "", uid=NAMELESS)
    shutil.copy(Path(sys.executable).resolve(), copy)
    program(den / tool, proof)
    (den / "linked").mkdir()
    (den / "linked" / tool).symlink_to(den / tool)
    service = den / "service"
    (service / "supervise").mkdir(parents=True)
    os.chown(den, NAMELESS, NAMELESS)
    variables = {"SUPERVISOR_PROCESS_NAME": "web", "PM2_HOME": str(den), "pm_id": "0"}
    more = ("--copy", str(copy), "--home", str(den), "-c", str(den / "x.conf"))
    pretend(lab, name, service, port, *more, uid=NAMELESS, **variables)
    path = f"{den / 'linked'}:{den}:{os.environ['PATH']}"

    for search_path in (path, os.environ["PATH"]):
        run = asked("who", "--json", str(port), env={"PATH": search_path})

        assert not proof.exists(), proof.read_text(encoding="utf-8")
        assert run.status == 0, run.stderr


ROOTS = [("s6-supervise", "s6-svstat"), ("runsv", "sv"), ("supervise", "svstat")]


@pytest.mark.parametrize(("name", "tool"), ROOTS)
def test_roots_own_manager_is_not_asked_by_a_strangers_program(
    lab: Lab, den: Path, tmp_path: Path, name: str, tool: str
) -> None:
    port, proof = free_port(), den / "proof"
    program(den / tool, proof)
    lab.start("pretending", "--name", name, "--folder", str(tmp_path), port, prefix=DETACHED)

    asked("who", "--json", str(port), env={"PATH": f"{den}:{os.environ['PATH']}"})

    assert not proof.exists()


@pytest.mark.parametrize(("name", "tool"), ROOTS)
def test_managers_are_asked_from_the_root_directory(
    lab: Lab, den: Path, tmp_path: Path, name: str, tool: str
) -> None:
    """Some look for a configuration file where they are started, be it in a stranger's folder."""
    port, proof = free_port(), tmp_path / "proof"
    write(tmp_path / tool, f"#!/bin/sh\npwd >>{proof}\n", uid=0)
    lab.start("pretending", "--name", name, "--folder", str(tmp_path), port, prefix=DETACHED)

    asked("who", "--json", str(port), env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, cwd=den)

    assert set(proof.read_text(encoding="utf-8").split()) == {"/"}


@pytest.mark.parametrize(("name", "tool"), ROOTS)
def test_a_service_directory_in_other_hands_is_not_asked_about(
    lab: Lab, den: Path, tmp_path: Path, name: str, tool: str
) -> None:
    """Root's own supervisor, started in a stranger's folder: what is in there is the stranger's."""
    port, proof = free_port(), tmp_path / "proof"
    write(tmp_path / tool, f"#!/bin/sh\necho asked >>{proof}\n", uid=0)
    lab.start("pretending", "--name", name, "--folder", str(den), port, prefix=DETACHED)

    run = asked("who", "--json", str(port), env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})

    assert not proof.exists()
    assert holder(run, port)["confidence"] == "suspected"
    assert f"{den} belongs to nobody" in run.stdout


def test_the_labels_of_a_container_are_no_options(engine: Engine, tmp_path: Path) -> None:
    """Whoever starts a container chooses its labels; kubectl would run what a kubeconfig names."""
    port, proof = free_port(), tmp_path / "proof"
    write(tmp_path / "kubectl", f'#!/bin/sh\necho "$@" >>{proof}\nexit 1\n', uid=0)
    labels = {
        "io.kubernetes.pod.name": "--kubeconfig=/tmp/evil",
        "io.kubernetes.pod.namespace": "--kubeconfig=/tmp/evil",
        "com.hashicorp.nomad.alloc_id": "-address=http://127.0.0.1:1",
        "com.docker.swarm.service.name": "--help",
    }
    given = [word for each in labels.items() for word in ("--label", "=".join(each))]
    web = engine.start(f"--publish=127.0.0.1:{port}:80", *given)
    web.wait_for(port)

    run = asked("who", "--json", str(port), env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})

    assert not proof.exists(), proof.read_text(encoding="utf-8")
    assert holder(run, port)["kind"] == "container"


@pytest.mark.parametrize("kind", ["fifo", "zero"])
def test_a_file_that_never_ends_is_not_waited_for(lab: Lab, den: Path, kind: str) -> None:
    """A FIFO as `pm2.pid` would hang for ever, and a link to /dev/zero eat all memory."""
    port = free_port()
    place = den / "pm2.pid"
    if kind == "fifo":
        os.mkfifo(place, 0o666)
    else:
        place.symlink_to("/dev/zero")
    pretend(lab, "node", den, port, PM2_HOME=str(den), pm_id="0")
    limit = ("prlimit", f"--as={2 << 30}")

    run = asked("who", "--json", str(port), prefix=limit)

    assert holder(run, port)["kind"] == "local"


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_daemon_of_root_that_was_handed_a_strangers_socket(
    lab: Lab, den: Path, force: tuple[str, ...]
) -> None:
    port, door = free_port(), den / "door"
    daemon = lab.start("receiving", str(door))
    lab.start("receiving", "--send", port, str(door), prefix=becoming(NOBODY), log=False)

    run = asked("resolve", "--json", *force, "--grace", "1", "--settle", "0.2", str(port))

    assert run.status == 3, run.stdout + run.stderr
    assert stays(lambda: daemon.alive, 0.5)
    assert daemon.signals() == []
    kinds = {
        each["processes"][0]["pid"]: each["kind"] for each in run.port(f"{port}/tcp")["holders"]
    }
    assert kinds[daemon.pid] == "bystander"


DROPS = """
import os, socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
os.setgid(65534), os.setuid(65534)
time.sleep(1000)
"""


def test_roots_own_socket_in_a_worker_of_another_user_is_the_workers(lab: Lab) -> None:
    port = free_port()
    server = lab.command(sys.executable, "-S", "-c", DROPS, str(port))
    wait_until(lambda: listens(port), "it listens")

    run = asked("resolve", "--json", "--settle", "0.2", str(port))

    assert (run.status, run.port(f"{port}/tcp")["verdict"]) == (0, "freed"), run.stdout
    assert server.wait(timeout=5) is not None


SENDS = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        open(sys.argv[2], "a").write(str(self.headers))
        self.send_error(401)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.mark.supervisord
def test_roots_password_is_not_sent_where_a_holder_says(lab: Lab, den: Path) -> None:
    """A program chooses its environment when it executes another: its URL is nobody's word."""
    port, trap, letters = free_port(), free_port(), den / "letters"
    lab.command(sys.executable, "-S", "-c", SENDS, str(trap), str(letters))
    wait_until(lambda: listens(trap), "the trap listens")
    with tempfile.TemporaryDirectory(prefix="lab") as folder:
        place = Path(folder)
        place.chmod(0o755)
        write(place / "s.conf", _supervisord(place, port, trap), mode=0o644, uid=0)
        popen = lab.command(shutil.which("supervisord") or "", "-n", "-c", str(place / "s.conf"))
        wait_until(lambda: answered_by(port), "the program answers")

        run = asked("who", "--json", str(port))

        assert not letters.exists(), letters.read_text(encoding="utf-8")
        assert holder(run, port)["kind"] == "service", run.stdout
        assert popen.poll() is None
        lab.reap()


def _supervisord(place: Path, port: int, trap: int) -> str:
    """The configuration of root's supervisord, whose program says that another one runs it."""
    server = f"{sys.executable} -S -m tests.lab.servers.answering {port}"
    lie = f"/usr/bin/env SUPERVISOR_SERVER_URL=http://127.0.0.1:{trap} {server}"
    return (
        f"[supervisord]\nlogfile={place}/log\npidfile={place}/pid\nchildlogdir={place}\n"
        f"[unix_http_server]\nfile={place}/sock\nusername=root\npassword=secret\n"
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
        f"[program:web]\ncommand={lie}\nuser=nobody\ndirectory=/\nautorestart=true\n"
    )


# --- /proc of another PID namespace ---------------------------------------------------------------

# In a new PID namespace with the old /proc: a server, and an innocent process that has, in the new
# namespace, the number by which the old /proc calls the server
SANDBOX = """
import os, subprocess, sys, time
port, command = sys.argv[1], sys.argv[2:]
server = subprocess.Popen([sys.executable, "-S", "-m", "tests.lab.servers.answering", port],
                          stdout=subprocess.PIPE)
server.stdout.readline()
outer = next(int(p) for p in os.listdir("/proc") if p.isdigit() and server.pid in numbers(p))
def innocent():
    while True:
        with open("/proc/sys/kernel/ns_last_pid", "w") as last:
            last.write(str(outer - 1))
        child = subprocess.Popen(["sleep", "100"])
        if child.pid == outer:
            return child
        child.kill()
        child.wait()
bystander = innocent()
done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
time.sleep(0.3)
print(done.stdout)
print("BYSTANDER", bystander.poll(), "SERVER", server.poll(), "STATUS", done.returncode)
"""
NUMBERS = """
def numbers(pid):
    try:
        lines = open(f"/proc/{pid}/status").read().splitlines()
        cmdline = open(f"/proc/{pid}/cmdline").read()
    except OSError:
        return []
    found = next((line.split()[1:] for line in lines if line.startswith("NSpid:")), [])
    return [int(found[-1])] if len(found) > 1 and "servers.answering" in cmdline else []
"""


def test_processes_of_another_pid_namespace_are_not_signalled(lab: Lab) -> None:
    """An agent's sandbox that has unshared its PIDs, and kept the /proc of its host."""
    port = free_port()
    inside = ("unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", NUMBERS + SANDBOX)
    resolve = (COMMAND, "resolve", "--grace", "1", "--settle", "0.2", str(port))
    done = subprocess.run(
        [*inside, str(port), *resolve],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **lab.marked()},
    )

    assert "BYSTANDER None SERVER None STATUS 4" in done.stdout, done.stdout + done.stderr
    assert "another PID namespace" in done.stdout + done.stderr


# --- what is printed to be pasted -----------------------------------------------------------------


LISTENS = "import socket,sys,time; s=socket.create_server(('',int(sys.argv[1]))); time.sleep(999)"


def test_an_undo_line_is_what_was_run_and_nothing_else(lab: Lab, den: Path) -> None:
    """Names of folders and arguments may hold anything; a shell must not run any of it."""
    port, proof = free_port(), den / "proof"
    folder = den / f"a b'; touch {proof.name}; $(touch {proof.name}) \n touch {proof.name} #"
    folder.mkdir()
    argument = f"--x=`touch {proof}`; touch {proof}\n\x1b[31m'\"$(touch {proof})"
    words = (sys.executable, "-c", LISTENS, str(port))
    lab.command(*words, argument, cwd=folder)
    wait_until(lambda: listens(port), "it listens")

    run = asked("resolve", "--json", "--settle", "0.2", str(port))
    (undo,) = holder(run, port)["step"]["undo_lines"]
    again = subprocess.Popen(
        ["/bin/bash", "-c", f"exec 2>/dev/null; {undo}"], env={**os.environ, **lab.marked()}
    )
    wait_until(lambda: listens(port), "it listens again")

    assert undo.isprintable()
    assert not list(den.rglob("proof"))
    facts = ultra("who", "--json", str(port)).port(f"{port}/tcp")["holders"][0]["processes"][0]
    assert (facts["command"], facts["cwd"]) == ([*words, argument], str(folder))
    lab.reap()
    again.wait()
