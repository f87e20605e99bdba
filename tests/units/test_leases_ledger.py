"""The ledger among many processes, killed processes, damage, strange databases and odd clocks."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from resolver.errors import ReservedError, StoreError
from resolver.leases.model import Claim, Owner
from resolver.leases.owner import Here, here, is_dead, myself, owner_of
from resolver.leases.rules import Moment
from resolver.leases.state import COPIES, StateDirectory
from resolver.leases.stores import database
from resolver.leases.stores.database import UnwritableError
from resolver.leases.stores.ledger import Ledger
from resolver.model import Pid, PortNumber, Transport
from tests.lab.processes import MARK, PACKAGES, ROOT, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = here({})
ME = myself(HERE)
UNSHARE = shutil.which("unshare") or "unshare"
FIRST = 20_000  # nothing is bound here: these are numbers in a ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger is made."""
    return tmp_path / "leases.db"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that SQLite is given."""
    found: list[str] = []
    connect = database.connect

    def traced(where: str, timeout_seconds: float = 0.0) -> sqlite3.Connection:
        connection = connect(where, timeout_seconds)
        connection.set_trace_callback(found.append)
        return connection

    monkeypatch.setattr("resolver.leases.stores.database.connect", traced)
    return found


@contextlib.contextmanager
def leasing(path: Path, *arguments: str | int) -> Iterator[subprocess.Popen[str]]:
    """`tests.lab.leasing` on this ledger; its end ends all its workers."""
    words = [sys.executable, "-S", "-m", "tests.lab.leasing", str(path), *map(str, arguments)]
    with subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": PACKAGES, MARK: ""},
    ) as popen:
        try:
            yield popen
        finally:
            popen.communicate()


def lines(popen: subprocess.Popen[str], count: int) -> list[Any]:
    assert popen.stdout is not None
    return [json.loads(popen.stdout.readline()) for _ in range(count)]


def claim(port: int = 8085, **changes: Any) -> Claim:  # noqa: ANN401 - any field of a claim
    fields: dict[str, Any] = {
        "scope": HERE.host_scope,
        "port": PortNumber(port),
        "transport": Transport.TCP,
        "address": None,
        "service": "api",
        "project": "shop",
        "owner": ME,
    }
    return Claim(**(fields | changes))


# --- many processes -------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "workers"), [("leases.db", 32), (COPIES[0], 16)])
def test_many_processes_get_ports_of_their_own_and_none_is_lost(
    tmp_path: Path, name: str, workers: int
) -> None:
    path = tmp_path / name
    with leasing(path, workers, FIRST, 400, 10) as popen:
        found = lines(popen, workers)
        leases = Ledger(path, HERE).leases()
    ports = [port for each in found for port in each]
    assert len(set(ports)) == len(ports) == 10 * workers
    assert sorted(ports) == [lease.port for lease in leases]
    assert len({lease.token for lease in leases}) == 10 * workers

    after = Ledger(path, HERE)
    assert after.leases() == ()
    assert len(after.prune()) == 10 * workers


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_working_ledger(tmp_path: Path) -> None:
    memory = Path("/dev/shm")  # noqa: S108 - hundreds of databases are made; a disk would be slow
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else tmp_path))
    (folder / "state").mkdir()
    done = subprocess.run(
        [sys.executable, "-S", "-m", "tests.lab.dying", str(folder / "state" / "leases.db")],
        env={**os.environ, "PYTHONPATH": PACKAGES},
        capture_output=True,
        text=True,
        check=True,
    )
    shutil.rmtree(folder)
    facts = json.loads(done.stdout)
    assert facts["faults"] == []
    assert facts["deaths"] > 80


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_what_a_killed_process_had_committed_is_read(path: Path, mode: str) -> None:
    """Also by who only looks, while what SQLite made beside the file still lies there."""
    Ledger(path, HERE).check()
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute(f"PRAGMA journal_mode = {mode}").fetchall() == [(mode,)]
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.units.test_leases_ledger import HERE, Ledger, claim\n"
        "store = Ledger(Path(sys.argv[1]), HERE)\n"
        "store.acquire([claim(8001, owner=None, ttl_seconds=600)])\n"
        "with store._database.writing() as database:\n"
        "    database.execute('DELETE FROM lease')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=False)
    assert [lease.port for lease in Ledger(path, HERE).leases()] == [8001]
    [found] = Ledger(path, HERE).prune() or Ledger(path, HERE).leases()
    assert found.port == 8001


# --- damage ---------------------------------------------------------------------------------------


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(5000))


def cut(path: Path) -> None:
    os.truncate(path, 5000)


def scribbled(path: Path) -> None:
    """Keeps the header, so that the damage shows only when the tables are read."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))


def nonsense(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE lease SET transport = 'pigeon'")


@pytest.mark.parametrize("damage", [garbage, cut, scribbled, nonsense])
def test_a_damaged_ledger_is_an_error_and_stays_as_it_is(
    path: Path, damage: Callable[[Path], None]
) -> None:
    Ledger(path, HERE).acquire([claim(port) for port in range(8000, 8040)])
    damage(path)
    before = path.read_bytes()
    ledger = Ledger(path, HERE)
    for work in (ledger.leases, ledger.prune):
        with pytest.raises(StoreError, match=r"leases\.db is damaged") as caught:
            work()
        assert not isinstance(caught.value, UnwritableError)
        assert caught.value.hint == f"`mv {path} {path}.damaged` forgets what is reserved there"
    assert path.read_bytes() == before
    assert {each.name for each in path.parent.iterdir()} <= {
        path.name,
        "leases.db-wal",
        "leases.db-shm",
    }


def test_a_stray_log_is_no_damage(path: Path) -> None:
    [lease] = Ledger(path, HERE).acquire([claim()])
    path.with_name("leases.db-wal").write_bytes(os.urandom(9000))
    ledger = Ledger(path, HERE)
    assert ledger.leases() == (lease,)


def test_tokens_grow_over_a_ledger_that_was_moved_away(path: Path) -> None:
    [old] = Ledger(path, HERE).acquire([claim()])
    path.rename(path.with_name("leases.db.damaged"))
    ledger = Ledger(path, HERE)
    [new] = ledger.acquire([claim()])
    assert new.token > old.token
    assert ledger.release([old]) == ()
    with pytest.raises(ReservedError, match="was lost"):
        ledger.renew(old, 60)
    assert ledger.leases() == (new,)


# --- earlier versions' ledgers --------------------------------------------------------------------

VERSION_1 = """
PRAGMA journal_mode = WAL;
PRAGMA application_id = 1970303604;
CREATE TABLE lease (
    token INTEGER PRIMARY KEY, scope TEXT NOT NULL, port INTEGER NOT NULL, transport TEXT NOT NULL,
    address TEXT, service TEXT NOT NULL, project TEXT NOT NULL, place TEXT NOT NULL,
    owner_boot TEXT, owner_namespace TEXT, owner_pid INTEGER, owner_start_time INTEGER,
    created_at REAL NOT NULL, expires_at REAL, held INTEGER NOT NULL, boot TEXT NOT NULL, ends REAL
);
CREATE INDEX lease_port ON lease (port);
CREATE TABLE last_port (
    scope TEXT NOT NULL, project TEXT NOT NULL, place TEXT NOT NULL, service TEXT NOT NULL,
    port INTEGER NOT NULL, PRIMARY KEY (scope, project, place, service)
) WITHOUT ROWID;
CREATE TABLE grants (last_token INTEGER NOT NULL);
INSERT INTO grants VALUES (1795747000002);
INSERT INTO last_port VALUES ('host:old', 'shop', '/srv/shop', 'api', 8085);
INSERT INTO lease VALUES (
    1795747000001, 'host:old', 8085, 'tcp', '127.0.0.1', 'api', 'shop', '/srv/shop',
    NULL, NULL, NULL, NULL, 1795747000.5, 4102444800.0, 0, 'a boot before', 90000.25
);
INSERT INTO lease VALUES (
    1795747000002, 'host:old', 8086, 'udp', NULL, 'web', 'shop', x'2f737276edb3bf',
    'a boot', 'pid:[4026531836]', 4711, 12345, 1795747000.5, NULL, 1, 'a boot', NULL
);
PRAGMA user_version = 1;
"""


def test_the_ledger_of_the_version_before_is_read_and_written(path: Path) -> None:
    """As that version made it: whatever becomes of the tables, nothing of it is forgotten."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(VERSION_1)
    ledger = Ledger(path, HERE)
    reserved, owned = ledger.leases("host:old")
    assert (reserved.token, str(reserved.request)) == (1795747000001, "127.0.0.1:8085/tcp")
    assert (reserved.service, reserved.project, reserved.place) == ("api", "shop", "/srv/shop")
    assert (reserved.owner, reserved.expires_at, reserved.held) == (None, 4102444800.0, False)
    assert (owned.token, str(owned.request), owned.place) == (
        1795747000002,
        "8086/udp",
        "/srv\udcff",
    )
    assert owned.owner == Owner("a boot", "pid:[4026531836]", Pid(4711), 12345)
    assert (owned.expires_at, owned.held) == (None, True)
    assert ledger.recall("host:old", "shop", "/srv/shop") == {"api": 8085}
    with pytest.raises(ReservedError, match="8085/tcp is reserved for api of project shop"):
        ledger.acquire([claim(scope="host:old", project="another")])
    [new] = ledger.acquire([claim(8087, scope="host:old")])
    assert new.token > owned.token
    assert ledger.renew(reserved, 60).token == reserved.token
    assert len(ledger.leases("host:old")) == 3


# --- others' databases ----------------------------------------------------------------------------


def test_a_later_versions_ledger_is_left_alone(path: Path) -> None:
    Ledger(path, HERE).check()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="later version"):
        Ledger(path, HERE).check()
    with pytest.raises(StoreError, match="later version"):
        Ledger(path, HERE).entries()
    assert path.read_bytes() == before


def test_another_programs_database_is_left_alone(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE browser_history (page TEXT)")
        database.execute("PRAGMA user_version = 1")
    with pytest.raises(StoreError, match="another program"):
        Ledger(path, HERE).check()
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT * FROM browser_history").fetchall() == []


def test_who_only_looks_waits_for_no_writer(path: Path) -> None:
    ledger = Ledger(path, HERE, patience_seconds=0.2)
    ledger.acquire([claim()])
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM lease")
        assert [lease.port for lease in ledger.leases()] == [8085], "what was committed"
        assert ledger.recall(HERE.host_scope, "shop", "") == {}
        with pytest.raises(StoreError, match="busy"):
            ledger.acquire([claim(8086)])
        other.execute("COMMIT")
    assert ledger.leases() == ()


def test_one_that_is_busy_for_too_long_is_an_error(path: Path) -> None:
    ledger = Ledger(path, HERE, patience_seconds=0.2)
    [lease] = ledger.acquire([claim()])
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="busy"):
            ledger.acquire([claim(8086)])
        assert [entry.lease for entry in Ledger(path, HERE).entries()] == [
            lease
        ]  # readers do not wait
        other.execute("ROLLBACK")
    assert len(ledger.acquire([claim(8086)])) == 1


def test_a_ledger_that_others_write_to_is_opened_at_once(tmp_path: Path, asked: list[str]) -> None:
    """Whoever opens it writes to it, to see whether it can; there is no turn to wait for."""
    directory = StateDirectory(tmp_path, "test")
    Ledger.opened(directory, HERE).acquire([claim()])
    with contextlib.closing(sqlite3.connect(directory.ledger, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        begun = asked.count("BEGIN IMMEDIATE")
        store = Ledger.opened(directory, HERE)
        assert asked.count("BEGIN IMMEDIATE") == begun + 1
        other.execute("ROLLBACK")
    assert (store.lasting, [each.port for each in store.leases()]) == (True, [8085])


def test_who_waits_asks_as_often_as_who_has_just_come(path: Path, asked: list[str]) -> None:
    """SQLite's own waiting asks ever more rarely: in a crowd, the first to come was the last."""
    ledger = Ledger(path, HERE, patience_seconds=60)
    ledger.check()
    with (
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other,
        ThreadPoolExecutor() as pool,
    ):
        other.execute("BEGIN IMMEDIATE")
        begun = asked.count("BEGIN IMMEDIATE")
        waiting = pool.submit(ledger.acquire, [claim()])
        try:
            wait_until(
                lambda: asked.count("BEGIN IMMEDIATE") > begun + 20, "it asks again and again"
            )
        finally:
            other.execute("ROLLBACK")
        assert len(waiting.result()) == 1


def test_a_rollback_journal_will_do(path: Path) -> None:
    """As on a file system without shared memory, where SQLite cannot have a write-ahead log."""
    Ledger(path, HERE).check()
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA journal_mode = DELETE").fetchall() == [("delete",)]
    with leasing(path, 8, FIRST, 60, 5) as popen:
        ports = [port for each in lines(popen, 8) for port in each]
        assert [lease.port for lease in Ledger(path, HERE).leases()] == sorted(set(ports))
    assert len(ports) == 40


def test_a_store_can_be_used_after_a_fork(path: Path) -> None:
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from tests.units.test_leases_ledger import HERE, Ledger, claim\n"
        "store = Ledger(Path(sys.argv[1]), HERE)\n"
        "store.acquire([claim(8001)])\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    store.acquire([claim(8002)])\n"
        "    store.close()\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "store.acquire([claim(8003)])\n"
        "print([lease.port for lease in store.leases()])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [8001, 8002, 8003]


def test_a_ledger_that_was_removed_is_made_again(path: Path) -> None:
    ledger = Ledger(path, HERE)
    ledger.acquire([claim()])
    for each in path.parent.iterdir():
        each.unlink()
    [lease] = ledger.acquire([claim(8086)])
    assert ledger.leases() == Ledger(path, HERE).leases() == (lease,)


def test_the_dead_are_swept_out_in_passing(path: Path) -> None:
    ledger = Ledger(path, HERE)
    gone = Owner(HERE.boot, HERE.pid_namespace, ME.pid, ME.start_time + 1)
    ledger.acquire([claim(port, owner=gone) for port in range(FIRST, FIRST + 600)])
    ledger.acquire([claim()])
    assert len(Ledger(path, HERE).entries()) == 1


# --- clocks ---------------------------------------------------------------------------------------


class Clocks:
    """The two clocks, as the test sets them."""

    def __init__(self) -> None:
        self.wall = 1_800_000_000.0
        self.since_boot = 1000.0
        self.boot = HERE.boot

    def __call__(self, boot: str) -> Moment:
        return Moment(self.wall, boot, self.since_boot)

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.since_boot += seconds


@pytest.fixture(params=["sqlite", "memory"])
def clocked(request: pytest.FixtureRequest, path: Path) -> tuple[Any, Clocks]:
    """A store on such clocks."""
    clocks = Clocks()
    if request.param == "memory":
        return Ledger(None, HERE, now=clocks), clocks
    return Ledger(path, HERE, now=clocks), clocks


@pytest.mark.parametrize("step", [86_400.0, -86_400.0, 1.0, -1.0])
def test_a_step_of_the_clock_moves_no_end(clocked: tuple[Any, Clocks], step: float) -> None:
    store, clocks = clocked
    store.acquire([claim(owner=None, ttl_seconds=60)])
    clocks.wall += step
    clocks.pass_by(59)
    [shown] = store.leases()
    assert abs(shown.expires_at - (clocks.wall + 1)) <= 1
    with pytest.raises(ReservedError):
        store.acquire([claim(service="web")])
    clocks.pass_by(2)
    assert store.leases() == ()
    assert len(store.acquire([claim(service="web")])) == 1


def test_in_another_boot_the_wall_clock_counts(path: Path) -> None:
    clocks = Clocks()
    Ledger(path, HERE, now=clocks).acquire([claim(owner=None, ttl_seconds=3600)])
    after = Ledger(path, Here("the next boot", HERE.pid_namespace, HERE.host_scope), now=clocks)
    clocks.since_boot = 5.0
    clocks.wall += 600
    assert len(after.leases()) == 1
    clocks.wall += 3600
    assert after.leases() == ()


# --- owners ---------------------------------------------------------------------------------------


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits to be ended."""
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as child:
        yield child


def test_a_zombie_is_dead(child: subprocess.Popen[bytes]) -> None:
    owner = owner_of(child.pid, HERE)
    assert not is_dead(owner, HERE.host_scope, HERE)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is not reaped
    assert is_dead(owner, HERE.host_scope, HERE)


def test_a_process_whose_main_thread_has_ended_lives() -> None:
    code = (
        "import ctypes, sys, threading\n"
        "threading.Thread(target=sys.stdin.read).start()\n"
        "print('.', flush=True)\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    words = [sys.executable, "-S", "-c", code]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.read(1)
        owner = owner_of(child.pid, HERE)

        def state() -> str:
            with open(f"/proc/{child.pid}/stat", encoding="ascii") as file:  # noqa: PTH123
                return file.read().rpartition(")")[2].split()[0]

        wait_until(lambda: state() == "Z", "its main thread has ended")
        assert not is_dead(owner, HERE.host_scope, HERE)
        child.kill()


def test_a_pid_that_was_used_again_is_dead() -> None:
    before = Owner(HERE.boot, HERE.pid_namespace, ME.pid, ME.start_time - 1)
    assert is_dead(before, HERE.host_scope, HERE)


@pytest.mark.parametrize(
    ("boot", "namespace", "scope", "dead"),
    [
        ("another", HERE.pid_namespace, HERE.host_scope, True),  # it has booted since
        ("another", HERE.pid_namespace, "host:another", False),  # another machine's
        ("another", HERE.pid_namespace, "engine:X", False),
        (HERE.boot, "pid:[1]", HERE.host_scope, False),  # a container's
    ],
)
def test_who_can_be_judged(boot: str, namespace: str, scope: str, *, dead: bool) -> None:
    nobody = Pid(2**22 + 1)  # above any pid_max
    assert is_dead(Owner(boot, namespace, nobody, 1), scope, HERE) is dead
    assert is_dead(Owner(HERE.boot, HERE.pid_namespace, nobody, 1), scope, HERE)


@pytest.mark.parametrize("scope", ["engine:X", "net:boot:1", "host:another"])
def test_an_owner_whom_others_cannot_judge_gets_an_end(path: Path, scope: str) -> None:
    [lease] = Ledger(path, HERE).acquire([claim(scope=scope)])
    assert lease.expires_at is not None
    inside = Here(HERE.boot, "pid:[1]", HERE.host_scope)
    [lease] = Ledger(path, inside).acquire([claim(8086)])
    assert lease.expires_at is not None


@pytest.mark.root
def test_a_process_that_is_hidden_is_not_taken_for_dead(as_nobody: tuple[str, ...]) -> None:
    """proc(5), hidepid=2: other users' processes are not even listed."""
    code = (
        "from resolver.leases.owner import here, is_dead, owner_of\n"
        "from resolver.leases.model import Owner\n"
        "w = here({})\n"
        f"seen = Owner(w.boot, w.pid_namespace, {os.getpid()}, {ME.start_time})\n"
        "gone = Owner(w.boot, w.pid_namespace, 4194305, 1)\n"
        "print(is_dead(seen, w.host_scope, w), is_dead(gone, w.host_scope, w))\n"
    )
    mount = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'
    done = subprocess.run(
        [UNSHARE, "--mount", "sh", "-c", mount, "sh", *as_nobody, sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": PACKAGES},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["False", "True"], done.stderr
