"""Where reservations are kept: full and read-only places, other users, logs, and `config`."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.cli import Run, ultra
from tests.lab.ports import free_port
from tests.lab.processes import unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

OTHER_USER = 65533  # neither root nor nobody
FORGOTTEN = "they are forgotten when this command ends"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A project's root."""
    root = tmp_path / "project"
    (root / ".git").mkdir(parents=True)
    return root


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user can get to, and that is the user's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def reserve(place: object, here: Path, port: int, *more: str, **options: Any) -> Run:  # noqa: ANN401
    env = {"ULTRA_PORTS_STATE": str(place), **options.pop("env", {})}
    return ultra("reserve", "api", str(port), *more, cwd=here, env=env, **options)


def listed(place: object, here: Path, **options: Any) -> list[int]:  # noqa: ANN401 - as of `ultra`
    env = {"ULTRA_PORTS_STATE": str(place)}
    document = ultra("reservations", "--json", cwd=here, env=env, **options).json
    return [each["port"] for each in document["reservations"]]


@contextlib.contextmanager
def mounted(folder: Path, *arguments: str) -> Iterator[None]:
    """A file system on this directory; needs root."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None:
        unavailable("mount(8) is missing")
    done = subprocess.run([mount, *arguments, str(folder)], capture_output=True, check=False)
    if done.returncode != 0:
        unavailable(f"mount: {done.stderr.decode()}")
    try:
        yield
    finally:
        subprocess.run([umount, str(folder)], check=True)


def assert_not_kept(run: Run, place: object, reason: str) -> None:
    """Asserts one warning that names the place and the reason, and that nothing is promised."""
    assert (run.status, run.stdout) == (1, ""), run.stderr
    warning, refusal = run.stderr.splitlines()
    assert f"reservations cannot be kept in {place}: {reason}; {FORGOTTEN}" in warning
    assert "not reserved: it would be forgotten at once" in refusal


def assert_stays_reserved(place: object, here: Path, port: int) -> None:
    """Asserts that nobody says that a lease was ended which others still see."""
    for arguments in (["api"], [str(port)], ["--all"], ["api", "--json"]):
        run = ultra("release", *arguments, cwd=here, env={"ULTRA_PORTS_STATE": str(place)})
        assert (run.status, run.stdout) == (1, "")
        assert f"{port}/tcp stays reserved: the ledger can only be read" in run.stderr
    assert listed(place, here) == [port]


# --- places ---------------------------------------------------------------------------------------


def test_the_directory_is_made_for_this_user_alone(tmp_path: Path, here: Path) -> None:
    place = tmp_path / "a" / "b"
    assert reserve(place, here, free_port()).status == 0
    assert place.stat().st_mode & 0o777 == 0o700
    assert {each.name for each in place.iterdir()} == {"leases.db"}
    assert {each.stat().st_mode & 0o777 for each in place.iterdir()} == {0o600}


def test_a_relative_path_starts_at_the_projects_root(here: Path) -> None:
    below = here / "src" / "deep"
    below.mkdir(parents=True)
    assert reserve("var/state", below, free_port()).status == 0
    assert (here / "var" / "state" / "leases.db").exists()


def test_the_home_and_variables(tmp_path: Path, here: Path) -> None:
    env = {"HOME": str(tmp_path), "SUB": "x"}
    assert reserve("~/$SUB/${SUB}", here, free_port(), env=env).status == 0
    assert (tmp_path / "x" / "x" / "leases.db").exists()
    assert reserve("", here, free_port(), env=env | {"XDG_STATE_HOME": ""}).status == 0
    assert (tmp_path / ".local" / "state" / "ultra-ports" / "leases.db").exists()
    run = reserve("~/$MISSING", here, free_port(), env=env)
    assert (run.status, run.stdout) == (2, "")
    assert "MISSING is not set" in run.stderr


def test_a_file_in_the_way(tmp_path: Path, here: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for place in (file, file / "x"):
        assert_not_kept(reserve(place, here, free_port()), place, f"{file} is no directory")
    assert listed(file, here) == []
    assert file.read_bytes() == b""


def test_a_directory_in_the_place_of_the_ledger(tmp_path: Path, here: Path) -> None:
    (tmp_path / "leases.db").mkdir()
    run = reserve(tmp_path, here, free_port())
    assert run.status == 1
    assert str(tmp_path) in run.stderr


@pytest.mark.parametrize("name", ["leases.db", "leases.db-wal"])
def test_a_pipe_in_the_place_of_a_file_keeps_nobody_waiting(
    tmp_path: Path, here: Path, name: str
) -> None:
    os.mkfifo(tmp_path / name)
    port, env = free_port(), {"ULTRA_PORTS_STATE": str(tmp_path)}
    run = reserve(tmp_path, here, port, timeout=20)
    assert_not_kept(run, tmp_path, f"{name} is a pipe of uid {os.geteuid()}'s: it is left alone")
    for arguments in (["reservations"], ["release", "api"], ["who", str(port), "--no-docker"]):
        ultra(*arguments, cwd=here, env=env, timeout=20)


def test_no_home(here: Path) -> None:
    env = {"HOME": "/nonexistent", "XDG_STATE_HOME": ""}
    run = reserve("", here, free_port(), env=env)
    assert run.status == 1
    assert "reservations cannot be kept: this user has no home directory" in run.stderr


def test_a_hold_works_without_a_place_and_says_so(tmp_path: Path, here: Path) -> None:
    (tmp_path / "file").touch()
    port = free_port()
    run = reserve(tmp_path / "file", here, port, "--hold", "--ttl", "1s")
    assert (run.status, run.stdout) == (0, f"{port}\n"), run.stderr
    assert FORGOTTEN in run.stderr


@pytest.mark.root
def test_a_full_disk(tmp_path: Path, here: Path) -> None:
    place = tmp_path / "full"
    place.mkdir()
    port = free_port()
    with mounted(place, "-t", "tmpfs", "-o", "size=128k,mode=700", "tmpfs"):
        with contextlib.suppress(OSError), (place / "fill").open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        assert_not_kept(reserve(place, here, port), place, "the disk is full")
        (place / "fill").unlink()
        assert reserve(place, here, port).status == 0
        with contextlib.suppress(OSError), (place / "fill").open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        assert_not_kept(reserve(place, here, free_port()), place, "the disk is full")
        assert listed(place, here) == [port]  # what there is can still be read
        assert (
            "reserved for api"
            in ultra("who", str(port), cwd=here, env={"ULTRA_PORTS_STATE": str(place)}).stdout
        )
        (place / "fill").unlink()
        assert reserve(place, here, free_port()).status == 0
        assert len(listed(place, here)) == 2


@pytest.mark.root
def test_a_read_only_place(tmp_path: Path, here: Path) -> None:
    place = tmp_path / "read-only"
    place.mkdir()
    port = free_port()
    reserve(place, here, port)
    with mounted(place, "-o", "bind", str(place)):
        remount = [shutil.which("mount") or "mount", "-o", "remount,ro,bind", str(place)]
        subprocess.run(remount, check=True)
        assert_not_kept(reserve(place, here, free_port()), place, "Read-only file system")
        assert listed(place, here) == [port]
        run = ultra(
            "reserve", "x", str(port), "--project", "other", "--hold",
            cwd=here, env={"ULTRA_PORTS_STATE": str(place)},
        )  # fmt: skip
        assert run.status == 1  # others live by what can only be read
        assert f"{port}/tcp is reserved for api" in run.stderr
        assert_stays_reserved(place, here, port)


def test_a_damaged_ledger(tmp_path: Path, here: Path) -> None:
    place = tmp_path / "state"
    place.mkdir()
    (place / "leases.db").write_bytes(b"no database" * 1000)
    port = free_port()
    notes = ultra("who", str(port), "--json", env={"ULTRA_PORTS_STATE": str(place)})
    assert notes.status == 0  # a broken ledger is a note, and no more
    assert "what is reserved cannot be told" in notes.stderr

    run = reserve(place, here, port)
    assert (run.status, run.stdout) == (1, "")
    [line] = run.stderr.splitlines()
    assert f"{place}/leases.db is damaged, and nothing was changed in it" in line
    move = f"mv {place}/leases.db {place}/leases.db.damaged"
    assert f"`{move}` forgets what is reserved there" in line
    assert (place / "leases.db").read_bytes() == b"no database" * 1000
    subprocess.run(move.split(), check=True)
    assert reserve(place, here, port).status == 0


def test_another_programs_database_is_an_error(tmp_path: Path, here: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "leases.db")) as database, database:
        database.execute("CREATE TABLE history (page TEXT)")
    run = reserve(tmp_path, here, free_port())
    assert (run.status, run.stdout) == (1, "")
    assert "another program's database" in run.stderr


# --- users ----------------------------------------------------------------------------------------


def as_user(uid: int, as_nobody: tuple[str, ...]) -> tuple[str, ...]:
    """The command that runs another one as this user."""
    swapped = {f"--reuid={65534}": f"--reuid={uid}", f"--regid={65534}": f"--regid={uid}"}
    return tuple(swapped.get(word, word) for word in as_nobody)


@pytest.mark.root
def test_roots_own_ledger_is_not_for_others(
    public: Path, here: Path, as_nobody: tuple[str, ...]
) -> None:
    port = free_port()
    assert reserve(public, here, port).status == 0
    root = Path("/")
    run = ultra("who", str(port), "--no-docker", prefix=as_nobody, cwd=root,
                env={"ULTRA_PORTS_STATE": str(public)})  # fmt: skip
    assert run.status == 0
    assert "what is reserved cannot be told" in run.stderr
    assert "cannot be read by this user" in run.stderr
    run = reserve(public, root, free_port(), prefix=as_nobody)
    assert run.status == 1
    assert "Permission denied" in run.stderr
    run = ultra("reservations", prefix=as_nobody, cwd=root, env={"ULTRA_PORTS_STATE": str(public)})
    assert run.status == 1  # and not "nothing is reserved"
    assert "cannot be read by this user" in run.stderr


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722])
def test_a_directory_where_others_may_remove_files_is_refused(
    tmp_path: Path, here: Path, mode: int
) -> None:
    place = tmp_path / "the state"
    place.mkdir()
    place.chmod(mode)
    assert_not_kept(
        reserve(place, here, free_port()),
        place,
        f"others may remove files from it (`chmod +t '{place}'` if they shall use it too, "
        f"`chmod go-w '{place}'` if not)",
    )
    assert list(place.iterdir()) == []
    place.chmod(mode | 0o1000)
    assert reserve(place, here, free_port()).status == 0


@pytest.mark.root
def test_users_share_a_directory_that_all_may_write_to(
    public: Path, as_nobody: tuple[str, ...]
) -> None:
    public.chmod(0o1777)
    root, ports = Path("/"), [free_port() for _ in range(3)]
    users = [as_nobody, as_user(OTHER_USER, as_nobody), ()]
    for port, user in zip(ports, users, strict=True):
        run = reserve(public, root, port, "--project", f"p{port}", prefix=user)
        assert run.status == 0, run.stderr
    for user in users:
        assert listed(public, root, prefix=user) == sorted(ports)
        for port in ports:
            assert reserve(public, root, port, "--project", "late", prefix=user).status == 1
    assert {each.name for each in public.iterdir()} == {"leases.1", "leases.2", "leases.lock"}
    assert {each.stat().st_mode & 0o777 for each in public.iterdir()} == {0o666}
    release = ("release", str(ports[2]), "--project", f"p{ports[2]}")
    assert ultra(*release, prefix=as_nobody, cwd=root,
                 env={"ULTRA_PORTS_STATE": str(public)}).status == 0  # fmt: skip
    assert len(listed(public, root)) == 2


@pytest.mark.root
def test_what_root_makes_in_a_users_home_is_the_users(
    public: Path, as_nobody: tuple[str, ...]
) -> None:
    """As with a `sudo` that leaves HOME alone."""
    os.chown(public, 65534, 65534)
    root = Path("/")
    env = {"HOME": str(public), "XDG_STATE_HOME": ""}
    assert reserve("", root, free_port(), env=env).status == 0
    run = reserve("", root, free_port(), prefix=as_nobody, env=env)
    assert run.status == 0, run.stderr
    made = public / ".local" / "state" / "ultra-ports"
    below = (public / ".local", made.parent, made, *made.iterdir())
    assert {each.owner() for each in below} == {"nobody"}


@pytest.mark.root
def test_an_owner_of_another_user_is_judged(public: Path, as_nobody: tuple[str, ...]) -> None:
    public.chmod(0o1777)
    root, port = Path("/"), free_port()
    with subprocess.Popen(["/bin/sleep", "600"]) as owner:
        assert reserve(public, root, port, "--for", str(owner.pid)).status == 0
        late = ("--project", "late")
        assert reserve(public, root, port, *late, prefix=as_nobody).status == 1
        owner.kill()
        owner.wait()
    assert reserve(public, root, port, *late, prefix=as_nobody).status == 0


# --- logs and config ------------------------------------------------------------------------------


def test_the_log(tmp_path: Path, here: Path) -> None:
    port = free_port()
    run = reserve(tmp_path, here, port, env={"ULTRA_PORTS_LOG": "info"})
    assert run.stdout == f"{port}\n"
    assert re.search(rf"(?m)^\S+ \S+Z \d+ INFO reserved {port}/tcp for api", run.stderr)
    assert "INFO" not in reserve(tmp_path, here, port).stderr
    file = tmp_path / "log"
    for _ in range(2):
        run = reserve(tmp_path, here, port, env={"ULTRA_PORTS_LOG": f"debug:{file}"})
        assert "INFO" not in run.stderr
    assert file.read_text(encoding="utf-8").count("INFO reserved") == 2


@pytest.mark.parametrize("setting", ["loud", "debug,info", ":/x", "5"])
def test_a_level_that_there_is_not(here: Path, tmp_path: Path, setting: str) -> None:
    run = reserve(tmp_path, here, free_port(), env={"ULTRA_PORTS_LOG": setting})
    assert (run.status, run.stdout) == (2, "")
    assert "ULTRA_PORTS_LOG" in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_a_log_that_cannot_be_written_is_no_reason_to_fail(here: Path, tmp_path: Path) -> None:
    for path in ("/nonexistent/log", "/dev/full"):
        env = {"ULTRA_PORTS_LOG": f"debug:{path}"}
        run = reserve(tmp_path, here, free_port(), env=env)
        assert run.status == 0, run.stderr


def test_a_scope_that_there_is_not_is_told_before_it_is_needed(tmp_path: Path) -> None:
    run = ultra("config", env={"ULTRA_PORTS_SCOPE": "galaxy"}, cwd=tmp_path)
    assert run.status == 0
    assert "ULTRA_PORTS_SCOPE: 'galaxy' is no scope: it is machine or engine" in run.stderr
    assert "scope" not in ultra("config", env={"ULTRA_PORTS_SCOPE": "engine"}, cwd=tmp_path).stderr


def test_config_says_where_each_setting_came_from(tmp_path: Path, here: Path) -> None:
    (here / "ultra-ports.toml").write_text(
        'project = "shop"\npool = "8000-8099"\n[services]\napi = 8085\nweb = 3000\ndb = 5432\n',
        encoding="utf-8",
    )
    (here / ".env").write_text("WEB_PORT=3001\n", encoding="utf-8")
    env = {
        "ULTRA_PORTS_STATE": "var",
        "ULTRA_PORTS_STORE": "redis://ann:secret@db:6379/0",
        "DB_PORT": "5433",
        "ULTRA_PORTS_STAT": "x",
        "HOME": str(tmp_path),
    }
    run = ultra("config", "--json", cwd=here, env=env)
    assert run.status == 0, run.stderr
    assert run.json["schema"] == "ultra-ports.config/1"
    found = {each["name"]: (each["value"], each["origin"]) for each in run.json["settings"]}
    assert found["ULTRA_PORTS_STATE"] == (str(here / "var"), "environment")
    assert found["ULTRA_PORTS_STORE"] == ("redis://***@db:6379/0", "environment")
    assert found["ULTRA_PORTS_SCOPE"] == ("machine", "default")
    assert found["project"][0] == "shop"
    assert found["pool"] == ("8000-8099", str(here / "ultra-ports.toml"))
    assert found["api"] == ("8085/tcp", "ultra-ports.toml")
    assert found["web"] == ("3001/tcp", "WEB_PORT in .env")
    assert found["db"] == ("5433/tcp", "DB_PORT in the environment")
    assert "ULTRA_PORTS_STAT is no setting; ULTRA_PORTS_STATE was meant?" in run.stderr
    assert not (here / "var").exists()  # it only looks

    table = ultra("config", cwd=here, env=env)
    assert "secret" not in run.stdout + run.stderr + table.stdout + table.stderr
    assert re.search(r"(?m)^web +3001/tcp +WEB_PORT in \.env$", table.stdout)


def test_who_without_a_ledger_makes_none(tmp_path: Path, here: Path) -> None:
    place = tmp_path / "state"
    assert (
        ultra("who", str(free_port()), cwd=here, env={"ULTRA_PORTS_STATE": str(place)}).status == 0
    )
    assert not place.exists()
