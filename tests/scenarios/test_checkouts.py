"""Two checkouts of one project on one machine: whose server is it, and who may end it?"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from resolver.leases.store import open_store
from tests.lab.cli import COMMAND, ultra
from tests.lab.namespaces import network_namespace
from tests.lab.ports import free_port, is_free
from tests.lab.processes import alive, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.cli import Run
    from tests.lab.processes import Lab, Server

SERVE = """
import os, socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print(os.getpid(), flush=True)
time.sleep(600)
"""
NOBODY = 65534
QUICK = ("--settle", "0.1", "--no-docker")


class Checkouts:
    """A repository with a second worktree; the tests stand in the second."""

    def __init__(self, folder: Path, port: int, lab: Lab) -> None:
        self.main, self.other, self.port, self._lab = folder / "shop", folder / "agent", port, lab
        self.main.mkdir()
        self._git("init", "-q", "-b", "trunk")
        (self.main / "ultra-ports.toml").write_text(
            f'project = "shop"\n[services]\napi = {port}\n', encoding="utf-8"
        )
        self._git("add", ".")
        self._git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first")
        self._git("worktree", "add", "-q", "-b", "fix", str(self.other))

    def _git(self, *words: str) -> None:
        subprocess.run(["/usr/bin/git", *words], cwd=self.main, check=True, capture_output=True)

    def serve(self, place: Path, port: int = 0, *, leased: bool = False) -> Server:
        """A server whose working directory is `place`, under a lease where that is wanted."""
        number = port or self.port
        run = (COMMAND, "run", "-p", f"api:{number}", "--") if leased else ()
        return self._lab.start("answering", number, prefix=("env", "-C", str(place), *run))

    def ultra(self, *words: str, **variables: str) -> Run:
        """The command, in the second worktree."""
        return ultra(*words, cwd=self.other, env=variables)

    def ownership(self, port: int = 0) -> dict[str, Any]:
        """Whose the first holder is, as JSON has it."""
        run = self.ultra("who", "--no-docker", "--json", str(port or self.port))
        found: dict[str, Any] = run.json["ports"][0]["holders"][0]["ownership"]
        return found


@pytest.fixture
def checkouts(tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Checkouts:
    """Both, with a store of reservations of their own."""
    monkeypatch.setenv("ULTRA_PORTS_STATE", str(tmp_path / "state"))
    for name in ("API_PORT", "ULTRA_PORTS_ONLY"):
        monkeypatch.delenv(name, raising=False)
    return Checkouts(tmp_path, free_port(), lab)


def test_a_living_lease_of_another_checkout_is_respected(checkouts: Checkouts) -> None:
    server = checkouts.serve(checkouts.main, leased=True)

    run = checkouts.ultra("resolve", *QUICK, str(checkouts.port))

    assert run.status == 3, run.stdout + run.stderr
    assert alive(server.pid)
    assert not server.signals()
    where = f"branch trunk, in {checkouts.main}"
    assert f"it runs under the living lease of api of shop, {where}" in run.stdout
    assert f"ultra-ports resolve --take {checkouts.port}/tcp" in run.stdout
    beside = next(line for line in run.stderr.splitlines() if " is free: " in line).split()[1]
    assert f"`ultra-ports run --port api:{beside} -- COMMAND`" in run.stderr
    assert is_free(int(beside))


def test_take_ends_it_and_reserves_the_port_here(checkouts: Checkouts) -> None:
    server = checkouts.serve(checkouts.main, leased=True)

    run = checkouts.ultra("resolve", *QUICK, "--take", str(checkouts.port))

    assert run.status == 0, run.stdout + run.stderr
    assert not alive(server.pid)
    store = open_store(os.environ, checkouts.other)
    (lease,) = store.leases()
    store.close()
    assert (lease.service, lease.place, lease.port) == (
        "api",
        str(checkouts.other),
        checkouts.port,
    )


def test_the_own_lease_is_no_obstacle(checkouts: Checkouts) -> None:
    server = checkouts.serve(checkouts.other, leased=True)
    assert checkouts.ownership()["whose"] == "mine"

    run = checkouts.ultra("resolve", *QUICK, str(checkouts.port))

    assert run.status == 0, run.stdout + run.stderr
    assert not alive(server.pid)


def test_mine_frees_what_is_mine_and_spares_the_rest(checkouts: Checkouts) -> None:
    ours, theirs = free_port(), free_port()
    mine, other = checkouts.serve(checkouts.other, ours), checkouts.serve(checkouts.main, theirs)

    run = checkouts.ultra("resolve", *QUICK, "--mine", str(ours), str(theirs))

    assert run.status == 3, run.stdout + run.stderr
    assert not alive(mine.pid)
    assert alive(other.pid)
    assert not other.signals()
    assert run.stdout.splitlines()[0].endswith("PROJECT")
    assert f"it belongs to shop, branch trunk, in {checkouts.main}" in run.stdout
    assert f"ultra-ports resolve --anybody {theirs}/tcp" in run.stdout


@pytest.mark.parametrize("by", ["variable", "file"])
def test_mine_can_be_the_default(checkouts: Checkouts, by: str) -> None:
    variables = {"ULTRA_PORTS_ONLY": "mine"} if by == "variable" else {}
    if by == "file":
        path = checkouts.other / "ultra-ports.toml"
        path.write_text(path.read_text() + '[resolve]\nonly = "mine"\n', encoding="utf-8")
    server = checkouts.serve(checkouts.main)

    run = checkouts.ultra("resolve", *QUICK, str(checkouts.port), **variables)
    assert run.status == 3, run.stdout + run.stderr
    assert alive(server.pid)

    run = checkouts.ultra("resolve", *QUICK, "--anybody", str(checkouts.port), **variables)
    assert run.status == 0, run.stdout + run.stderr
    assert not alive(server.pid)


def test_without_being_asked_another_checkouts_server_is_freed_and_named(
    checkouts: Checkouts,
) -> None:
    server = checkouts.serve(checkouts.main)

    run = checkouts.ultra("resolve", *QUICK, str(checkouts.port))

    assert run.status == 0, run.stdout + run.stderr
    assert not alive(server.pid)
    assert f"belongs to shop, branch trunk, in {checkouts.main}" in run.stdout


def test_a_directory_that_was_deleted_is_a_place(checkouts: Checkouts) -> None:
    gone = checkouts.main.parent / "gone"
    gone.mkdir()
    server = checkouts.serve(gone)
    gone.rmdir()

    found = checkouts.ownership()
    run = checkouts.ultra("resolve", *QUICK, "--mine", str(checkouts.port))

    assert (found["whose"], found["place"], found["gone"]) == ("other", str(gone), True)
    assert run.status == 3
    assert alive(server.pid)
    assert "(deleted)" in run.stdout


def test_a_worktree_that_was_deleted_inside_of_this_one_is_not_this_one(
    checkouts: Checkouts,
) -> None:
    inner = checkouts.other / "worktrees" / "inner"
    inner.mkdir(parents=True)
    checkouts.serve(inner)
    assert checkouts.ownership()["whose"] == "mine"
    shutil.rmtree(inner.parent)
    assert checkouts.ownership()["whose"] == "other"


def test_a_daemon_is_known_by_its_script(checkouts: Checkouts, lab: Lab) -> None:
    script = checkouts.main / "serve.py"
    script.write_text(
        "import pathlib, socket, sys, time\n"
        "s = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        "pathlib.Path(sys.argv[2]).touch()\n"
        "time.sleep(600)\n",
        encoding="utf-8",
    )
    ready = checkouts.main.parent / "ready"
    words = ("/usr/bin/python3", str(script), str(checkouts.port), str(ready))
    lab.command("env", "-C", "/", *words)
    wait_until(ready.exists, "it listens")
    found = checkouts.ownership()
    assert (found["whose"], found["place"]) == ("other", str(checkouts.main))
    assert "has its script in it" in found["evidence"][0]


def test_a_plan_that_spared_it_does_not_end_it_later(checkouts: Checkouts, tmp_path: Path) -> None:
    server = checkouts.serve(checkouts.main)
    plan = str(tmp_path / "plan.json")
    checkouts.ultra("resolve", "--no-docker", "--mine", "--plan-out", plan, str(checkouts.port))

    run = checkouts.ultra("apply", plan)

    assert run.status == 3, run.stdout + run.stderr
    assert alive(server.pid)


def test_only_this_checkouts_server_is_good_for_a_test(checkouts: Checkouts) -> None:
    """A sibling's server answers, and would be tested by mistake."""
    sibling = checkouts.serve(checkouts.main)
    port = str(checkouts.port)
    assert checkouts.ultra("health", "--no-docker", port).status == 0

    health = checkouts.ultra("health", "--no-docker", "--mine", port)
    wait = checkouts.ultra("wait", port, "--until", "mine", "--timeout", "0", "--no-docker")

    said = f"python {sibling.pid}, which belongs to shop, branch trunk, in {checkouts.main}"
    assert (health.status, wait.status) == (1, 1)
    assert said in health.stdout
    assert said in wait.stderr
    sibling.popen.kill()
    sibling.popen.wait()
    checkouts.serve(checkouts.other)
    assert checkouts.ultra("health", "--no-docker", "--mine", port).status == 0
    run = checkouts.ultra(
        "wait", port, "--until", "mine", "--no-docker", "--", "/bin/sh", "-c", "exit 7"
    )
    assert run.status == 7


@pytest.mark.parametrize(
    ("words", "variables", "said"),
    [
        (("--mine", "--anybody"), {}, "--mine and --anybody contradict each other"),
        ((), {"ULTRA_PORTS_ONLY": "all"}, "ULTRA_PORTS_ONLY: expected mine, not 'all'"),
    ],
)
def test_bad_input(
    checkouts: Checkouts, words: tuple[str, ...], variables: dict[str, str], said: str
) -> None:
    run = checkouts.ultra("resolve", *words, str(checkouts.port), **variables)
    assert run.status == 2
    assert said in run.stderr


def test_a_project_file_that_makes_no_sense(checkouts: Checkouts) -> None:
    path = checkouts.other / "ultra-ports.toml"
    path.write_text('[resolve]\nonly = "ours"\n', encoding="utf-8")
    run = checkouts.ultra("resolve", str(checkouts.port))
    assert run.status == 2
    assert "resolve.only" in run.stderr


@pytest.fixture
def inside(lab: Lab) -> Iterator[tuple[str, ...]]:
    """What runs a command where nobody else has left anything behind."""
    with network_namespace(lab) as prefix:  # with the mounts of the machine, as /dev/pts
        yield ("/usr/bin/nsenter", f"--net=/run/netns/{prefix[-1]}")


def on_a_terminal(inside: tuple[str, ...], lab: Lab, place: Path, serve: str) -> int:
    """The PID of a server that outlives the session and the terminal on which it was begun."""
    leader, terminal = pty.fork()
    if leader == 0:
        os.chdir(place)
        words = [*inside, "/bin/sh", "-c", f"trap '' HUP; {serve} & sleep 1"]
        os.execvpe(words[0], words, {**os.environ, **lab.marked()})  # noqa: S606
    said = b""
    while b"\n" not in said:
        said += os.read(terminal, 4096)
    os.waitpid(leader, 0)
    os.close(terminal)
    return int(said)


def begun(ready: Path) -> int:
    """The PID that a server has written to `ready`, where init has adopted it."""
    wait_until(lambda: ready.exists() and ready.read_text(encoding="utf-8"), "it listens")
    pid: int = json.loads(ready.read_text(encoding="utf-8"))["pid"]
    wait_until(lambda: psutil.Process(pid).ppid() == 1, "init has adopted it")
    return pid


@pytest.mark.root
def test_what_was_left_behind_is_found_and_ended(
    checkouts: Checkouts, lab: Lab, inside: tuple[str, ...]
) -> None:
    gone = checkouts.main.parent / "gone"
    gone.mkdir()
    deleted = lab.start("answering", 7001, prefix=(*inside, "env", "-C", str(gone)))
    gone.rmdir()
    (checkouts.main / "serve.py").write_text(SERVE, encoding="utf-8")
    left = on_a_terminal(inside, lab, checkouts.main, "/usr/bin/python3 serve.py 7002")
    living = lab.start("answering", 7003, prefix=(*inside, "env", "-C", str(checkouts.main)))

    def run(*words: str) -> Run:
        return ultra(*words, "--no-docker", cwd=checkouts.other, prefix=inside)

    notes = {
        each["label"]: each["notes"][0] for each in run("who", "--stale", "--json").json["ports"]
    }
    assert set(notes) == {"7001/tcp", "7002/tcp"}
    assert notes["7001/tcp"] == f"left behind: {gone} was deleted"
    assert notes["7002/tcp"].startswith("left behind: its session (process ")

    asked = run("resolve", "--stale")
    assert "nothing was ended: --yes ends what is listed here" in asked.stderr
    assert alive(deleted.pid)
    assert alive(left)

    done = run("resolve", "--stale", "--yes", "--settle", "0.1")
    assert done.status == 0, done.stdout + done.stderr
    assert not alive(deleted.pid)
    assert not alive(left)
    assert alive(living.pid)
    assert run("resolve", "--stale").status == 0


@pytest.mark.root
def test_a_daemon_is_not_left_behind(
    checkouts: Checkouts, lab: Lab, inside: tuple[str, ...]
) -> None:
    """It has left its session's leader behind on purpose: fork, setsid, fork."""
    ready = checkouts.main / "ready"
    serve = f"{sys.executable} -S -m tests.lab.servers.answering 7004 </dev/null >{ready} 2>&1"
    words = ("/bin/sh", "-c", f'setsid -f sh -c "{serve} & sleep 1"; sleep 1')
    lab.command(*inside, *words, cwd=checkouts.main)
    begun(ready)
    who = ultra("who", "--stale", "--no-docker", "--json", cwd=checkouts.other, prefix=inside)
    assert who.json["ports"] == []


@pytest.mark.root
def test_a_strangers_git_file_leads_root_nowhere(checkouts: Checkouts, tmp_path: Path) -> None:
    private, theirs = tmp_path / "private", tmp_path / "theirs"
    for each in (private, theirs):
        each.mkdir()
    (private / "HEAD").write_text("ref: refs/heads/secret\n", encoding="utf-8")
    private.chmod(0o700)
    (theirs / ".git").write_text(f"gitdir: {private}\n", encoding="utf-8")
    checkouts.serve(theirs)
    assert checkouts.ownership()["branch"] == "secret", "root's own .git is read"
    os.chown(theirs / ".git", NOBODY, NOBODY)
    found = checkouts.ownership()
    assert (found["place"], found["branch"]) == (str(theirs), "")


def test_words_of_a_command_line_are_no_places(checkouts: Checkouts, lab: Lab) -> None:
    folder = checkouts.main.parent / "elsewhere"
    folder.mkdir()
    (folder / "serve.py").write_text(
        "import pathlib, socket, sys, time\n"
        "s = socket.create_server(('127.0.0.1', int(sys.argv[2])))\n"
        "pathlib.Path('ready').touch()\n"
        "time.sleep(600)\n",
        encoding="utf-8",
    )
    words = ("/usr/bin/python3", "serve.py", "svc/web", str(checkouts.port))
    lab.command(*words, cwd=folder)
    wait_until((folder / "ready").exists, "it listens")
    found = checkouts.ownership()
    assert (found["whose"], found["gone"]) == ("unknown", False)


@pytest.mark.parametrize("server", ["redis", "gunicorn"])
def test_a_lease_follows_a_server_into_the_background(
    checkouts: Checkouts, lab: Lab, tmp_path: Path, server: str
) -> None:
    """The process that was leased for ends at once, and leaves the server behind."""
    port, pidfile = str(checkouts.port), tmp_path / "pid"
    words = {
        "redis": ("redis-server", "--port", port, "--daemonize", "yes", "--pidfile", str(pidfile)),
        "gunicorn": (
            *(f"{Path(sys.executable).parent}/gunicorn", "--daemon", "-b", f"127.0.0.1:{port}"),
            *("--pid", str(pidfile), "wsgiref.simple_server:demo_app"),
        ),
    }[server]
    run = (COMMAND, "run", "-p", f"api:{port}", "--plain", "--", *words)
    subprocess.run(
        run, cwd=checkouts.main, env={**os.environ, **lab.marked()}, check=True, timeout=30
    )
    wait_until(lambda: answered(checkouts.port), "it listens")
    wait_until(pidfile.exists, "its PID is written")

    assert checkouts.ownership()["leased"] == "api"
    spared = checkouts.ultra("resolve", *QUICK, port)
    assert spared.status == 3, spared.stdout
    assert f"api of shop, branch trunk, in {checkouts.main}" in spared.stdout

    pid = int(pidfile.read_text(encoding="utf-8"))
    assert alive(pid)
    psutil.Process(pid).terminate()
    wait_until(lambda: not alive(pid), "it has ended")
    store = open_store(os.environ, checkouts.other)
    assert store.leases() == ()
    store.close()


def answered(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
