"""Two checkouts of one project on one machine: whose server is it, and who may end it?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from resolver.leases.store import open_store
from tests.lab.cli import COMMAND, ultra
from tests.lab.ports import free_port, is_free, is_served, listens
from tests.lab.processes import alive, wait_until

if TYPE_CHECKING:
    from tests.lab.checkouts import Checkouts
    from tests.lab.processes import Lab

NOBODY = 65534
QUICK = ("--settle", "0.1", "--no-docker")


def test_a_living_lease_of_another_checkout_is_respected(checkouts: Checkouts) -> None:
    server = checkouts.serve(checkouts.main, leased=True)

    run = checkouts.ultra("resolve", *QUICK, str(checkouts.port))

    assert run.status == 3, run.stdout + run.stderr
    assert alive(server.pid)
    assert not server.signals()
    where = f"branch trunk, in {checkouts.main}"
    assert f"it runs under the living lease of api of shop, {where}" in run.stdout
    assert "reserved for" not in run.stdout, "it is the same fact"
    assert f"ultra-ports resolve --take {checkouts.port}/tcp" in run.stdout
    beside = next(line for line in run.stdout.splitlines() if " is free: " in line).split()[0]
    assert f"`ultra-ports run --port api:{beside} -- COMMAND`, or `assign`" in run.stdout
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


def test_take_says_that_the_service_keeps_what_it_was_assigned(checkouts: Checkouts) -> None:
    kept = free_port()
    assert checkouts.ultra("assign", f"api:{kept}").status == 0
    checkouts.serve(checkouts.main, leased=True)

    run = checkouts.ultra("resolve", *QUICK, "--take", str(checkouts.port))

    assert run.status == 0, run.stdout + run.stderr
    assert "is freed, but not reserved for this checkout: api already has " in run.stderr
    move = ("assign", "--strict", "--reassign", f"api:{checkouts.port}")
    assert f"{kept}; to move it: ultra-ports {' '.join(move)}\n" in run.stderr
    assert str(checkouts.port) in checkouts.ultra(*move).stdout


def test_the_own_lease_is_no_obstacle(checkouts: Checkouts) -> None:
    server = checkouts.serve(checkouts.other, leased=True)
    assert checkouts.ownership()["whose"] == "mine"
    rows = checkouts.ultra("who", "--no-docker").stdout.splitlines()
    assert any(row.startswith(f"{checkouts.port}/tcp ") and " mine: shop " in row for row in rows)

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
    said = f"another checkout's: shop, branch trunk, in {checkouts.main}; `--mine` spares it"
    assert said in run.stdout


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


def test_a_tool_that_is_a_clone_itself_is_no_checkout(
    checkouts: Checkouts, lab: Lab, tmp_path: Path
) -> None:
    """As version managers are: ~/.pyenv, ~/.nvm."""
    tool = tmp_path / ".pyenv"
    tool.mkdir()
    subprocess.run(["/usr/bin/git", "init", "-q", str(tool)], check=True)
    script = tool / "serve"
    script.write_text(
        "import http.server, sys\nhttp.server.test(port=int(sys.argv[1]))\n", encoding="utf-8"
    )
    lab.command("env", "-C", "/", "/usr/bin/python3", str(script), str(checkouts.port))
    wait_until(lambda: is_served(checkouts.port), "it listens")

    assert checkouts.ownership()["whose"] == "unknown"


@pytest.mark.parametrize("folder", ["/", "shared", "home"])
def test_where_anybody_works_nothing_is_mine(folder: str, lab: Lab, tmp_path: Path) -> None:
    number, home = free_port(), tmp_path / "home"
    port = str(number)
    (home / "app").mkdir(parents=True)
    server = lab.start("answering", number, prefix=("env", "-C", str(home / "app")))
    cwd = {"/": Path("/"), "shared": tmp_path, "home": home}[folder]
    if folder == "shared":
        tmp_path.chmod(0o1777)

    run = ultra("resolve", "--mine", *QUICK, port, cwd=cwd, env={"HOME": str(home)})

    assert (run.status, server.alive) == (3, True), run.stdout
    nearer = ultra("resolve", "--mine", *QUICK, port, cwd=home / "app", env={"HOME": str(home)})
    assert (nearer.status, server.alive) == (0, False), nearer.stdout


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
    wait_until(lambda: listens(checkouts.port), "it listens")
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


def test_a_worktree_inside_of_another_is_a_checkout_of_its_own(checkouts: Checkouts) -> None:
    """Agents make theirs below the first one, whose lease it is."""
    nested = checkouts.other / ".agents" / "one"
    nested.parent.mkdir()
    checkouts.add(nested, "nested")
    port = str(checkouts.port)
    assert checkouts.ultra("assign", "--no-docker").status == 0
    server = checkouts.serve(nested)

    assert checkouts.ownership()["whose"] == "other"
    found = ultra("who", "--no-docker", "--json", port, cwd=nested)
    assert found.port(f"{port}/tcp")["holders"][0]["ownership"]["whose"] == "mine"
    assert checkouts.ultra("resolve", *QUICK, "--mine", port).status == 3
    health = checkouts.ultra("health", "--no-docker", "--json", "api").json["services"][0]
    assert (health["healthy"], health["belongs"]) == (False, "stranger")
    assert alive(server.pid)


def test_a_project_below_the_top_of_its_worktree_owns_its_lease(checkouts: Checkouts) -> None:
    below = checkouts.other / "web"
    below.mkdir()
    port = free_port()
    (below / "ultra-ports.toml").write_text(f"[services]\nweb = {port}\n", encoding="utf-8")
    server = checkouts.serve(below, port, leased=True)

    for place in (below, checkouts.other):
        found = ultra("who", "--no-docker", "--json", str(port), cwd=place)
        ownership = found.port(f"{port}/tcp")["holders"][0]["ownership"]
        assert (ownership["whose"], ownership["leased"]) == ("mine", "api")
    run = ultra("resolve", *QUICK, str(port), cwd=below)
    assert run.status == 0, run.stdout
    assert not alive(server.pid)
