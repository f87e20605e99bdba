"""Files that are made or written as root where a stranger was first.

The stranger is a real process of the user nobody, which plants links, files, pipes and journals;
then root runs a command that writes there. Each test asserts that what the stranger aimed at was
not created, changed, given away or removed, and that one line says why.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resolver.leases.stores.database import connect
from tests.lab.cli import ultra
from tests.lab.ports import free_port
from tests.lab.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.lab.cli import Run

    Plant = Callable[[str], None]

pytestmark = pytest.mark.root
NOBODY = 65534
FORGOTTEN = "they are forgotten when this command ends"


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory like /tmp."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o1777)
        yield Path(folder)


@pytest.fixture
def home(public: Path, as_nobody: tuple[str, ...]) -> Path:
    """The stranger's home, where HOME of a `sudo` may still lead; its state directory is made."""
    state = public / "home" / ".local" / "state" / "ultra-ports"
    subprocess.run([*as_nobody, "mkdir", "-p", "-m", "0755", state], check=True)
    return public / "home"


@pytest.fixture
def stranger(as_nobody: tuple[str, ...]) -> Plant:
    """Runs a shell's command line as the stranger."""

    def run(script: str) -> None:
        subprocess.run([*as_nobody, "sh", "-c", script], check=True)

    return run


@pytest.fixture
def precious() -> Iterator[Path]:
    """Root's own file in a directory of root's, which the stranger can get to and link to."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        file = Path(folder) / "precious"
        file.write_text("precious", encoding="utf-8")
        file.chmod(0o666)  # else the kernel may refuse a hard link to it
        yield file


def facts(path: Path) -> tuple[object, ...]:
    """Whatever must not change: what is in it, whose it is, and what may be done with it."""
    status = path.stat()
    return (path.read_bytes(), status.st_uid, status.st_gid, status.st_mode, status.st_mtime_ns)


def reserve(home: Path, *more: str, **env: str) -> Run:
    """As root, with a HOME that is the stranger's."""
    env = {"HOME": str(home), "XDG_STATE_HOME": "", "ULTRA_PORTS_STATE": "", **env}
    return ultra("reserve", "api", str(free_port()), *more, cwd=Path("/"), env=env, timeout=30)


def state_of(home: Path) -> Path:
    return home / ".local" / "state" / "ultra-ports"


def assert_refused(run: Run, said: str) -> None:
    """Asserts one warning with this reason, and that nothing was promised."""
    assert (run.status, run.stdout) == (1, ""), run.stderr
    warning, _ = run.stderr.splitlines()
    assert said in warning
    assert FORGOTTEN in warning


# --- the state directory --------------------------------------------------------------------------

KINDS = {
    "dangling": ("ln -s {target}.new {name}", "a link of uid 65534's"),
    "link": ("ln -s {target} {name}", "a link of uid 65534's"),
    "hardlink": ("ln {target} {name}", "a file of uid 0's, with 2 names"),
    "pipe": ("mkfifo {name}", "a pipe of uid 65534's"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["leases.db", "leases.db-wal", "leases.db-shm", "leases.db-journal"]
)
def test_a_trap_in_the_users_own_state_directory(
    home: Path, precious: Path, stranger: Plant, kind: str, name: str
) -> None:
    script, said = KINDS[kind]
    if name.startswith("leases.db-"):
        assert reserve(home).status == 0
    before = facts(precious)
    stranger(script.format(target=precious, name=state_of(home) / name))
    assert_refused(reserve(home), f"{name} is {said}: it is left alone")
    assert facts(precious) == before
    assert list(precious.parent.iterdir()) == [precious]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["leases.lock", "leases.1", "leases.2"])
def test_a_trap_in_a_state_directory_that_users_share(
    public: Path, precious: Path, stranger: Plant, kind: str, name: str
) -> None:
    state = public / "state"
    state.mkdir()
    state.chmod(0o1777)
    script, said = KINDS[kind]
    before = facts(precious)
    stranger(script.format(target=precious, name=state / name))
    run = reserve(public, ULTRA_PORTS_STATE=str(state))
    assert_refused(run, f"{name} is {said}: it is left alone")
    assert facts(precious) == before
    assert list(precious.parent.iterdir()) == [precious]


def journal(ledger: Path, victim: Path) -> bytes:
    """A hot journal that names a super-journal, which SQLite deletes when it has played it back.

    sqlite.org/fileformat2.html, "The Rollback Journal"; sqlite3.c, readSuperJournal().
    """
    magic = bytes.fromhex("d9d505f920a163d7")
    pages, name = max(1, ledger.stat().st_size // 4096), os.fsencode(victim)
    head = magic + struct.pack(">5I", 0, 0, pages, 512, 4096)
    lock_page = 0x4000_0000 // 4096 + 1
    tail = struct.pack(">I", lock_page) + name + struct.pack(">2I", len(name), sum(name)) + magic
    return head.ljust(512, b"\0") + tail


def test_what_such_a_journal_does(tmp_path: Path) -> None:
    """That the two tests below test something."""
    ledger, victim = tmp_path / "leases.db", tmp_path / "victim"
    victim.write_text("precious", encoding="utf-8")
    with contextlib.closing(sqlite3.connect(ledger)) as database:
        database.execute("CREATE TABLE t (a)")
        database.commit()
    ledger.with_name("leases.db-journal").write_bytes(journal(ledger, victim))
    with contextlib.closing(sqlite3.connect(ledger)) as database:
        database.execute("SELECT * FROM sqlite_master").fetchall()
    assert not victim.exists()


@pytest.mark.parametrize("place", ["home", "shared"])
def test_a_planted_journal_has_root_delete_nothing(
    home: Path, precious: Path, stranger: Plant, place: str
) -> None:
    state = state_of(home) if place == "home" else home.parent / "state"
    env = {"HOME": str(home), "XDG_STATE_HOME": "", "ULTRA_PORTS_STATE": ""}
    if place == "shared":
        state.mkdir()
        state.chmod(0o1777)
        env["ULTRA_PORTS_STATE"] = str(state)
    port = str(free_port())
    assert ultra("reserve", "api", port, cwd=Path("/"), env=env).status == 0
    ledgers = [each for each in state.rglob("leases.*") if each.suffix != ".lock"]
    assert ledgers
    source = home.parent / "journal"
    before = facts(precious)
    for command in (["who", port], ["reserve", "web", str(free_port())], ["reservations"]):
        for ledger in ledgers:
            source.write_bytes(journal(ledger, precious))
            stranger(f"rm -f {ledger}-journal; cp {source} {ledger}-journal")
        ultra(*command, cwd=Path("/"), env=env, timeout=30)
        assert precious.exists()
        assert facts(precious) == before


def test_a_users_ledger_is_opened_with_the_users_rights(
    home: Path, stranger: Plant, as_nobody: tuple[str, ...]
) -> None:
    """Whatever SQLite makes there belongs to the user, and so do the directories above it."""
    stranger(f"rm -r {home}/.local")
    assert reserve(home).status == 0
    env = {"HOME": str(home), "XDG_STATE_HOME": "", "ULTRA_PORTS_STATE": ""}
    assert ultra("reservations", cwd=Path("/"), env=env, prefix=as_nobody).status == 0
    state = state_of(home)
    made = (home / ".local", state.parent, state, *state.iterdir())
    assert {each.stat().st_uid for each in made} == {NOBODY}


def test_root_acts_as_the_user_in_one_thread_alone(home: Path) -> None:
    """proc_pid_status(5): the fourth number is the user whose rights count for files."""
    code = (
        "import os, threading\n"
        "from resolver.host.own_files import acting\n"
        "def rights():\n"
        "    text = open('/proc/thread-self/status').read()\n"
        "    print(text.partition('Uid:')[2].split()[3], end=' ', flush=True)\n"
        "rights()\n"
        "now = threading.Event()\n"
        "other = threading.Thread(target=lambda: (now.wait(), rights()))\n"
        "other.start()\n"
        "with acting(65534, 65534):\n"
        "    rights()\n"
        "    now.set(); other.join()\n"
        "    with acting(65534, 65534): pass\n"
        "    rights()\n"
        "rights()\n"
    )
    assert in_python(code, home) == "0 65534 0 65534 0"


def test_root_acts_as_the_user_where_threads_cannot(home: Path) -> None:
    """As on macOS, whose own code this runs: the process's effective user changes."""
    code = (
        "import os, sys\n"
        "sys.platform = 'darwin'\n"
        "from resolver.host.own_files import folder\n"
        "with folder(sys.argv[1] + '/new/state', make=True) as there:\n"
        "    os.close(there.open('file'))\n"
        "print(os.geteuid(), os.getegid())\n"
    )
    assert in_python(code, home) == "0 0"
    made = (home / "new", home / "new" / "state", home / "new" / "state" / "file")
    assert {each.stat().st_uid for each in made} == {NOBODY}


def in_python(code: str, *arguments: object) -> str:
    """What the code prints."""
    words = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_what_only_root_may_read_can_still_be_loaded(home: Path, tmp_path: Path) -> None:
    """With the user's rights nothing of this package is loaded: root's may be for root alone."""
    copy = tmp_path / "copy"
    copy.mkdir(mode=0o700)
    no_code = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "resolver", copy / "resolver", ignore=no_code)
    run = reserve(home, PYTHONPATH=str(copy), PYTHONDONTWRITEBYTECODE="")
    assert run.status == 0, run.stderr
    assert list(copy.rglob("*.pyc")), "the copy was loaded"


def test_a_strangers_link_as_the_state_directory(
    public: Path, stranger: Plant, tmp_path: Path
) -> None:
    (tmp_path / "root").mkdir(mode=0o700)
    stranger(f"ln -s {tmp_path}/root {public}/state")
    run = reserve(public, ULTRA_PORTS_STATE=str(public / "state"))
    assert_refused(run, f"{public}/state is a link of uid 65534's, where everybody may write")
    assert list((tmp_path / "root").iterdir()) == []
    (public / "mine").symlink_to(tmp_path / "root")
    assert reserve(public, ULTRA_PORTS_STATE=str(public / "mine")).status == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_trap_for_the_count_of_outcomes(
    home: Path, precious: Path, stranger: Plant, kind: str
) -> None:
    before = facts(precious)
    stranger(KINDS[kind][0].format(target=precious, name=state_of(home) / "outcomes"))
    code = "import os\nfrom resolver.leases import outcomes\noutcomes.begin(os.environ)\n"
    env = os.environ | {"HOME": str(home), "XDG_STATE_HOME": "", "ULTRA_PORTS_STATE": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert f"outcomes is {KINDS[kind][1]}: it is left alone" in done.stderr
    assert facts(precious) == before
    assert list(precious.parent.iterdir()) == [precious]


def test_a_ledger_that_never_ends_keeps_nobody_waiting(
    home: Path, as_nobody: tuple[str, ...]
) -> None:
    """A view in the place of a table may take for ever."""
    port = str(free_port())
    env = {"HOME": str(home), "XDG_STATE_HOME": "", "ULTRA_PORTS_STATE": ""}
    assert reserve(home).status == 0
    code = (
        "import sqlite3, sys\n"
        "database = sqlite3.connect(sys.argv[1])\n"
        "database.executescript('ALTER TABLE lease RENAME TO old; CREATE VIEW lease AS '\n"
        "    'WITH RECURSIVE n AS (SELECT 1 UNION ALL SELECT 1 FROM n) SELECT old.* FROM n, old')\n"
    )
    ledger = str(state_of(home) / "leases.db")
    subprocess.run([*as_nobody, sys.executable, "-c", code, ledger], check=True)
    run = ultra("who", port, "--no-docker", cwd=Path("/"), env=env, timeout=20)
    assert "there are views or triggers in it" in run.stderr
    assert run.status == 0


def test_no_schema_is_trusted() -> None:
    with contextlib.closing(connect(":memory:")) as database:
        assert database.execute("PRAGMA trusted_schema").fetchall() == [(0,)]
    package = ROOT / "resolver"
    opens = [
        str(each.relative_to(package))
        for each in package.rglob("*.py")
        if "sqlite3.connect(" in each.read_text(encoding="utf-8")
    ]
    assert opens == ["leases/stores/database.py"], "it is the one place where SQLite is opened"


# --- files that the user names --------------------------------------------------------------------


def write(what: str, target: Path) -> Run:
    """Has root write a file."""
    port, env = str(free_port()), {}
    words = {
        "plan": ["resolve", "--no-docker", "--plan-out", str(target), port],
        "env": ["assign", "--no-docker", f"api:{port}", "--env-file", str(target)],
        "preview": ["assign", "-n", "--no-docker", f"api:{port}", "--env-file", str(target)],
        "log": ["resolve", "--no-docker", "--settle", "0", port],
    }
    if what == "log":
        env = {"ULTRA_PORTS_LOG": f"debug:{target}"}
    return ultra(*words[what], env=env, cwd=target.parent, timeout=30)


@pytest.mark.parametrize("aim", ["new", "old", "folder"])
@pytest.mark.parametrize("what", ["plan", "env", "preview", "log"])
def test_a_strangers_link_in_a_directory_like_tmp(
    public: Path, precious: Path, stranger: Plant, what: str, aim: str
) -> None:
    before, there = facts(precious), set(precious.parent.iterdir())
    name = public / "name"
    if aim == "folder":
        stranger(f"ln -s {precious.parent} {name}")
        run = write(what, name / "precious")
    else:
        stranger(f"ln -s {precious}{'.new' if aim == 'new' else ''} {name}")
        run = write(what, name)
    assert (run.status, run.stdout) == (2, "")
    [line] = run.stderr.splitlines()
    assert f"{name} is a link of uid 65534's, where everybody may write: it is left alone" in line
    assert facts(precious) == before
    assert set(precious.parent.iterdir()) == there
    assert set(public.iterdir()) == {name}


@pytest.mark.parametrize("what", ["plan", "env", "log"])
def test_a_link_of_a_stranger_leads_root_to_no_others_files(
    home: Path, precious: Path, stranger: Plant, what: str
) -> None:
    """As in the project of another user: his links lead to what is his."""
    before = facts(precious)
    stranger(f"ln -s {precious} {home}/wrong; ln -s {home}/file {home}/right; touch {home}/file")
    run = write(what, home / "wrong")
    assert (run.status, run.stdout) == (2, "")
    assert f"a link of uid 65534 leads to {precious}, which is uid 0's" in run.stderr
    assert facts(precious) == before
    assert write(what, home / "right").status == 0
    assert (home / "file").stat().st_size > 0


@pytest.mark.parametrize("what", ["plan", "env", "log"])
def test_ones_own_links_go_on_working(public: Path, tmp_path: Path, what: str) -> None:
    (public / "name").symlink_to(tmp_path / "file")
    run = write(what, public / "name")
    assert run.status == 0, run.stderr
    assert (tmp_path / "file").stat().st_size > 0
    assert (public / "name").is_symlink()


@pytest.mark.parametrize("what", ["plan", "env", "log"])
@pytest.mark.parametrize("kind", ["touch {name}; chmod 666 {name}", "mkfifo -m 666 {name}"])
def test_a_strangers_file_in_a_directory_like_tmp(
    public: Path, stranger: Plant, what: str, kind: str
) -> None:
    """Who made it reads along, or keeps whoever opens it waiting."""
    name = public / "name"
    stranger(kind.format(name=name))
    run = write(what, name)
    assert (run.status, run.stdout) == (2, "")
    [line] = run.stderr.splitlines()
    assert f"{name} is a file of uid 65534's, where everybody may write" in line
    assert (name.stat().st_size, name.stat().st_uid) == (0, NOBODY)


def test_a_pipe_as_the_log_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    run = write("log", tmp_path / "log")
    assert run.status == 0
    assert re.search(r"ULTRA_PORTS_LOG: cannot write .*/log: No such device", run.stderr)


def test_a_log_goes_to_a_pipe_that_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    cat = shutil.which("cat") or "cat"
    with subprocess.Popen([cat, tmp_path / "log"], stdout=subprocess.PIPE) as reader:
        opened = os.open(tmp_path / "log", os.O_WRONLY)  # waits for the reader
        assert write("log", tmp_path / "log").status == 0
        os.close(opened)
        assert b"INFO ultra-ports" in reader.communicate(timeout=20)[0]
    run = ultra("ports", "-h", env={"ULTRA_PORTS_LOG": "debug:/dev/stderr"})
    assert "INFO ultra-ports" in run.stderr
