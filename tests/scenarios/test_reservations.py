"""`reserve`, `release`, `reservations`, and what `who` and `resolve` say of reservations."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import contracts
from tests.lab import runner as runners
from tests.lab.cli import COMMAND, Run, refused, ultra
from tests.lab.ports import free_port, free_range, is_free
from tests.lab.processes import alive, stays, unavailable, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.engine import Engine
    from tests.lab.processes import Lab

HOURS = 3600


class Shop:
    """A project with a file of its own, and commands that run in it."""

    def __init__(self, root: Path, name: str = "shop") -> None:
        self.root = root
        self.name = name
        self.api, self.web, self.pool = free_port(), free_port(), free_range(4)
        root.mkdir()
        (root / ".git").mkdir()
        (root / "ultra-ports.toml").write_text(
            f'project = "{name}"\npool = "{self.pool}-{self.pool + 3}"\n'
            f"[services]\napi = {self.api}\nweb = {self.web}\n",
            encoding="utf-8",
        )

    def __call__(self, *arguments: str, **more: Any) -> Run:  # noqa: ANN401 - as of `ultra`
        return ultra(*arguments, cwd=self.root, **more)

    def leases(self, *options: str) -> list[dict[str, Any]]:
        """What `reservations --json` tells."""
        document = self("reservations", "--json", *options).json
        assert document["schema"] == "ultra-ports.reservations/1"
        found: list[dict[str, Any]] = document["reservations"]
        return found


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "shop")


@pytest.fixture
def blog(tmp_path: Path) -> Shop:
    """Another project."""
    return Shop(tmp_path / "blog", "blog")


@pytest.fixture
def owner() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing."""
    with subprocess.Popen(["/bin/sleep", "600"]) as popen:
        yield popen
        popen.kill()


@contextlib.contextmanager
def holding(
    shop: Shop, *arguments: str, prefix: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen[str]]:
    """`reserve --hold` while it holds; its first line of stdout has been read."""
    with subprocess.Popen(
        [*prefix, COMMAND, "reserve", *arguments, "--hold"],
        cwd=shop.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as popen:
        try:
            assert popen.stdout is not None
            assert popen.stderr is not None
            assert popen.stdout.readline().strip().isdecimal(), popen.stderr.read()
            yield popen
        finally:
            popen.kill()


# --- reserve and release --------------------------------------------------------------------------


def test_the_port_is_data_and_the_story_is_not(shop: Shop) -> None:
    run = shop("reserve", "api")
    assert (run.status, run.stdout) == (0, f"{shop.api}\n")
    assert f"{shop.api}/tcp is reserved for api of project shop ({shop.root})" in run.stderr
    assert ": free, checked by binding it" in run.stderr

    [lease] = shop.leases()
    assert (lease["port"], lease["service"], lease["project"]) == (shop.api, "api", "shop")
    assert (lease["place"], lease["owner"], lease["held"]) == (str(shop.root), None, False)
    assert abs(lease["expires_at"] - time.time() - 8 * HOURS) < 120


def test_a_service_and_its_port_may_be_one_word(shop: Shop) -> None:
    port = free_port()
    assert shop("reserve", f"api:{port}").stdout == f"{port}\n"
    twice = shop("reserve", f"api:{port}", "8085")
    assert (twice.status, "has a PORT already" in twice.stderr) == (2, True)


def test_a_second_time_is_the_same_reservation(shop: Shop) -> None:
    shop("reserve", "api", "--ttl", "90s")
    assert shop("reserve", "api", "--ttl", "2d").status == 0
    [lease] = shop.leases()
    assert abs(lease["expires_at"] - time.time() - 48 * HOURS) < 120


def test_what_was_assigned_is_reserved_where_it_is_and_for_as_long(lab: Lab, shop: Shop) -> None:
    server = lab.start("prefork", shop.api)
    assigned = shop("assign", "api", "--json").json["services"][0]["port"]
    server.popen.kill()
    [before] = shop.leases()

    run = shop("reserve", "api")

    assert (run.status, run.stdout) == (0, f"{assigned}\n"), run.stderr
    assert assigned != shop.api
    [after] = shop.leases()
    assert abs(after["expires_at"] - before["expires_at"]) < 120
    assert shop("env", "api").stdout == f"{assigned}\n"
    shop("reserve", "api", "--ttl", "1h")
    [asked] = shop.leases()
    assert abs(asked["expires_at"] - time.time() - HOURS) < 120


@pytest.mark.parametrize("output", ["/dev/full", "a reader that has left"])
@pytest.mark.parametrize("before", [False, True])
def test_what_cannot_be_told_is_not_reserved(shop: Shop, output: str, *, before: bool) -> None:
    if before:
        shop("reserve", "api", "--ttl", "1h")
    known = shop.leases()
    script = '"$@" >/dev/full'
    if output != "/dev/full":
        script = 'set -o pipefail; { sleep 0.3; "$@"; } | :'

    run = shop("reserve", "api", "--ttl", "9h", prefix=("bash", "-c", script, "bash"))

    assert run.status == 1, run.stderr
    assert [each["port"] for each in shop.leases()] == [each["port"] for each in known]
    for now, then in zip(shop.leases(), known, strict=True):
        assert now["expires_at"] == pytest.approx(then["expires_at"], abs=5)


def test_another_project_is_told_whose_it_is(shop: Shop, blog: Shop) -> None:
    shop("reserve", "api")
    run = blog("reserve", "api", str(shop.api))
    assert (run.status, run.stdout) == (1, "")
    assert f"{shop.api}/tcp is reserved for api of project shop ({shop.root}) until" in run.stderr
    assert blog("reserve", "api", f"127.0.0.1:{shop.api}").status == 1
    assert blog("reserve", "api", f"{shop.api}/udp").status == 0
    assert len(shop.leases()) == 2


def test_two_worktrees_are_two_places(shop: Shop, tmp_path: Path) -> None:
    other = Shop(tmp_path / "worktree", "shop")
    assert shop("reserve", "api").status == 0
    run = other("reserve", "api", str(shop.api))
    assert run.status == 1
    assert str(shop.root) in run.stderr


def test_a_range_gives_the_first_that_is_to_be_had(lab: Lab, shop: Shop, blog: Shop) -> None:
    first = free_range(4)
    span = f"{first}-{first + 3}"
    lab.start("prefork", first)
    blog("reserve", "db", str(first + 1))
    assert shop("reserve", "db", span).stdout == f"{first + 2}\n"
    assert shop("reserve", "db", span).stdout == f"{first + 2}\n"  # it has one already
    assert shop("reserve", "cache", span).stdout == f"{first + 3}\n"
    run = shop("reserve", "queue", span)
    assert (run.status, run.stdout) == (1, "")
    assert f"none of {first}-{first + 3} is left" in run.stderr


def test_a_service_without_a_port_gets_one_of_the_pool(shop: Shop) -> None:
    assert shop("reserve", "queue").stdout == f"{shop.pool}\n"
    assert shop("reserve", "cache").stdout == f"{shop.pool + 1}\n"
    shop("release", "--all")
    shop("reserve", "queue")
    assert shop("reserve", "cache").stdout == f"{shop.pool + 1}\n"  # as the last time


def test_a_port_that_a_stranger_holds_is_not_reserved(lab: Lab, shop: Shop) -> None:
    server = lab.start("prefork", shop.api)
    run = shop("reserve", "api")
    assert server.alive
    assert (run.status, run.stdout) == (1, ""), run.stderr
    assert f"{shop.api}/tcp is held by" in run.stderr
    assert str(server.pid) in run.stderr
    assert f"ultra-ports who {shop.api}" in run.stderr
    assert shop.leases() == []


def test_a_failed_renewal_keeps_the_reservation(lab: Lab, shop: Shop) -> None:
    shop("reserve", "api", "--ttl", "2d")
    [before] = shop.leases()
    server = lab.start("prefork", shop.api)
    assert shop("reserve", "api", "--ttl", "90s").status == 1
    [after] = shop.leases()
    assert abs(after["expires_at"] - before["expires_at"]) < 5
    assert server.alive


def test_the_projects_own_server_may_hold_it(shop: Shop) -> None:
    code = f"import socket; s = socket.create_server(('', {shop.api})); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", code],
        cwd=shop.root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        server.stdout.readline()
        run = shop("reserve", "api")
        assert run.status == 0
        assert "which is the project's own" in run.stderr
        assert str(server.pid) in run.stderr
        notes = shop("who", "api", "--json").port(f"{shop.api}/tcp")["notes"]
        [note] = [each for each in notes if "reserved for" in each]
        assert "WARNING" not in note
        assert "cannot be told" not in note


def test_release(shop: Shop, blog: Shop) -> None:
    for name in ("api", "web", "queue"):
        shop("reserve", name)
    assert "api was not reserved" in blog("release", "api").stderr

    run = shop("release", "api", str(shop.web))
    assert (run.status, run.stdout) == (0, "")
    assert f"{shop.api}/tcp is no longer reserved for api" in run.stderr
    assert [each["service"] for each in shop.leases()] == ["queue"]
    again = shop("release", "api", str(shop.web))
    assert again.status == 0
    assert "api was not reserved" in again.stderr
    shop("release", "--all")
    assert shop.leases() == []


def test_what_is_another_projects_is_not_released_in_passing(shop: Shop, blog: Shop) -> None:
    shop("reserve", "api")
    blog("reserve", "web")
    run = blog("release", str(blog.web), str(shop.api))
    assert run.status == 1
    assert "of project shop" in run.stderr
    assert len(shop.leases()) == 2  # all or nothing
    assert blog("release", "api", "--project", "shop").status == 0
    assert [each["project"] for each in shop.leases()] == ["blog"]


def test_a_living_owners_lease_is_not_released(shop: Shop, owner: subprocess.Popen[bytes]) -> None:
    assert shop("reserve", "api", "--for", str(owner.pid)).status == 0
    run = shop("release", "api")
    assert run.status == 1
    assert f"by process {owner.pid}" in run.stderr
    assert shop("release", "api", "--force").status == 0
    assert shop.leases() == []


def test_who_is_below_the_owner_may_release(shop: Shop) -> None:
    """As `reserve api --for $$` and then `release api` in one shell."""
    script = f"{COMMAND} reserve api --for $$ && {COMMAND} release api"
    done = subprocess.run(
        ["/bin/sh", "-c", script], cwd=shop.root, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


# --- owners ---------------------------------------------------------------------------------------


def test_it_ends_with_its_owner(shop: Shop, blog: Shop, owner: subprocess.Popen[bytes]) -> None:
    assert shop("reserve", "api", "--for", str(owner.pid)).status == 0
    [lease] = shop.leases()
    assert (lease["owner"]["pid"], lease["expires_at"]) == (owner.pid, None)
    table = shop("reservations").stdout
    assert re.search(rf"{shop.api}/tcp +api +shop +sleep {owner.pid} +with its owner", table)
    assert blog("reserve", "x", str(shop.api)).status == 1
    owner.kill()
    os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)  # a zombie owns nothing
    assert shop.leases() == []
    run = shop("reservations", "--prune")
    assert f"{shop.api}/tcp is forgotten" in run.stderr
    assert blog("reserve", "x", str(shop.api)).status == 0


def test_one_who_has_ended_owns_nothing(shop: Shop) -> None:
    with subprocess.Popen(["/bin/sleep", "0"]) as owner:
        owner.wait()
    run = shop("reserve", "api", "--for", str(owner.pid))
    assert (run.status, run.stdout) == (2, "")
    assert f"process {owner.pid} is gone" in run.stderr


def test_in_another_pid_namespace_time_alone_counts(shop: Shop) -> None:
    """As in a container that shares the state directory: nobody outside could judge the PID."""
    inside = ("unshare", "--pid", "--fork", "--mount-proc")
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode != 0:
        unavailable("no PID namespaces for this user")
    assert shop("reserve", "api", "--for", "1", prefix=inside).status == 0
    [lease] = shop.leases()
    assert abs(lease["expires_at"] - time.time() - 8 * HOURS) < 120
    assert shop("reservations", "--prune").stderr == ""


def test_another_network_namespace_has_ports_of_its_own(shop: Shop, blog: Shop) -> None:
    inside = ("unshare", "--net")
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode != 0:
        unavailable("no network namespaces for this user")
    assert shop("reserve", "api").status == 0
    assert blog("reserve", "x", str(shop.api), prefix=inside).status == 0
    assert len(shop.leases()) == 1
    assert len(shop.leases("--all")) == 2
    assert "SCOPE" in shop("reservations", "--all").stdout


def test_of_many_at_once_each_gets_a_port_of_its_own(tmp_path: Path) -> None:
    first, count = free_range(12), 12
    shops = [Shop(tmp_path / f"p{number}", f"p{number}") for number in range(count)]
    with ThreadPoolExecutor(count) as pool:
        runs = list(pool.map(lambda s: s("reserve", "api", f"{first}-{first + count - 1}"), shops))
    assert sorted(int(run.stdout) for run in runs) == list(range(first, first + count))


# --- hold -----------------------------------------------------------------------------------------


def test_a_hold_keeps_the_port_in_the_kernel(shop: Shop, blog: Shop) -> None:
    with holding(shop, "api") as popen:
        assert not is_free(shop.api)
        [lease] = shop.leases()
        assert (lease["owner"]["pid"], lease["held"]) == (popen.pid, True)
        assert blog("reserve", "x", str(shop.api)).status == 1
        [note] = shop("who", "api", "--json").port(f"{shop.api}/tcp")["notes"]
        assert f"by process {popen.pid}" in note
        assert "WARNING" not in note
        popen.terminate()
        assert popen.wait(10) == 128 + signal.SIGTERM
    assert is_free(shop.api)
    assert shop.leases() == []


def test_a_hold_that_is_killed_leaves_nothing(shop: Shop, blog: Shop) -> None:
    with holding(shop, "api") as popen:
        popen.kill()
        popen.wait(10)
        assert blog("reserve", "x", str(shop.api)).status == 0


def test_a_hold_ends_when_its_time_is_up(shop: Shop) -> None:
    with holding(shop, "api", "--ttl", "1s") as popen:
        assert popen.wait(20) == 0
    assert is_free(shop.api)


def catches(pid: int, number: int) -> bool:
    """Whether the process has a handler for the signal (SigCgt of proc_pid_status(5))."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    [mask] = re.findall(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return bool(int(mask, 16) >> (number - 1) & 1)


def test_a_hold_outlives_what_its_caller_ignores(shop: Shop) -> None:
    deaf = ("/bin/sh", "-c", "trap '' HUP INT; exec \"$@\"", "sh")  # as nohup(1) and `&` do it
    with holding(shop, "api", prefix=deaf) as popen:
        wait_until(lambda: catches(popen.pid, signal.SIGTERM), "its handler of SIGTERM")
        popen.send_signal(signal.SIGHUP)
        popen.send_signal(signal.SIGINT)
        assert stays(lambda: popen.poll() is None, seconds=0.5)
        popen.terminate()
        assert popen.wait(10) == 128 + signal.SIGTERM
    assert is_free(shop.api)


def test_a_hold_on_what_is_taken_fails(lab: Lab, shop: Shop) -> None:
    lab.start("prefork", shop.api)
    run = shop("reserve", "api", "--hold")
    assert (run.status, run.stdout) == (1, "")
    assert shop.leases() == []


# --- who and resolve ------------------------------------------------------------------------------


def note(shop: Shop, *arguments: str) -> str:
    """What is said of the reservation."""
    notes = shop(*arguments, "--json").port(f"{shop.api}/tcp")["notes"]
    [found] = [each for each in notes if "reserved for" in each]
    assert isinstance(found, str)
    return found


def test_who_says_whose_a_free_port_is(shop: Shop) -> None:
    shop("reserve", "api")
    free = shop("who", "api", "--json").port(f"{shop.api}/tcp")
    assert (free["verdict"], free["notes"]) == ("reserved", [])
    assert free["reason"].startswith(f"for api of project shop ({shop.root})")
    assert note(shop, "resolve", "api").startswith("reserved for api of project shop")
    assert "reserved for api" in shop("who", "api").stdout
    told = shop("resolve", "api").stdout
    assert told.startswith(f"{shop.api}/tcp (api) free, but reserved for api of project shop")
    assert told.count("reserved for") == 1
    assert shop("who", "web", "--json").port(f"{shop.web}/tcp")["notes"] == []


def test_who_warns_of_a_holder_that_is_not_the_owner(
    lab: Lab, shop: Shop, owner: subprocess.Popen[bytes]
) -> None:
    shop("reserve", "api", "--for", str(owner.pid))
    server = lab.start("prefork", shop.api)
    found = note(shop, "who", "api")
    assert f"by process {owner.pid}" in found
    assert re.search(rf"WARNING: \S+ {server.pid} holds it", found)


def test_a_child_of_the_owner_is_the_owners(shop: Shop) -> None:
    code = f"import socket; s = socket.create_server(('', {shop.api})); print(flush=True); input()"
    script = f'{COMMAND} reserve api --for $$ >&2; "{sys.executable}" -S -c "{code}"; true'
    with subprocess.Popen(
        ["/bin/sh", "-c", script],
        cwd=shop.root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as shell:
        assert shell.stdout is not None
        shell.stdout.readline()
        found = note(shop, "who", "api")
        assert f"by process {shell.pid}" in found
        assert "WARNING" not in found
        assert "cannot be told" not in found


def test_where_it_cannot_be_told_that_is_said(lab: Lab, shop: Shop) -> None:
    shop("reserve", "api")
    lab.start("prefork", shop.api)  # in a directory of its own
    assert "cannot be told" in note(shop, "who", "api")


def test_resolve_frees_a_reserved_port_and_says_whose_it_is(lab: Lab, shop: Shop) -> None:
    shop("reserve", "api")
    server = lab.start("prefork", shop.api)
    assert "WARNING" not in note(shop, "resolve", "api", "--settle", "0.3")
    assert not alive(server.pid)
    assert is_free(shop.api)


@pytest.mark.engine
def test_the_projects_own_container_is_the_reservations(
    engine: Engine, shop: Shop, tmp_path: Path
) -> None:
    labels = (
        "--label=com.docker.compose.project=shop",
        f"--label=com.docker.compose.project.working_dir={shop.root}",
    )
    web = engine.publish(f"{shop.api}:80", options=["--stop-timeout=1", *labels])
    web.wait_for(shop.api)
    run = shop("reserve", "api")
    assert run.status == 0, run.stderr
    assert "which is the project's own" in run.stderr
    assert "WARNING" not in note(shop, "who", "api")
    other = Shop(tmp_path / "other", "other")
    shop("release", "--all")
    assert web.name in other("reserve", "x", str(shop.api)).stderr
    assert other.leases() == []


# --- the engine's scope ---------------------------------------------------------------------------


@pytest.mark.engine
@pytest.mark.slow
def test_runners_that_share_an_engine_do_not_collide(engine: Engine, tmp_path: Path) -> None:
    """Two containers with the engine's socket, and one state directory in a volume."""
    state = tmp_path / "shared"
    state.mkdir()
    port, taken = free_port(), free_port()
    image = runners.image(engine)
    try:
        one, two = (runners.start(engine, image, f"--volume={state}:/state") for _ in range(2))
        env = {"ULTRA_PORTS_STATE": "/state", "ULTRA_PORTS_SCOPE": "engine"}
        web = engine.publish(f"{taken}:80", options=["--stop-timeout=1"])
        web.wait_for(taken)

        first = one.ultra("reserve", "api", str(port), "--project", "one", **env)
        assert (first.status, first.stdout) == (0, f"{port}\n"), first.stderr
        assert "no container publishes it" in first.stderr
        second = two.ultra("reserve", "api", str(port), "--project", "two", **env)
        assert second.status == 1
        assert "is reserved for api of project one" in second.stderr
        held = two.ultra("reserve", "web", str(taken), "--project", "two", **env)
        assert held.status == 1
        assert f"is published by container {web.name}" in held.stderr
        assert "not one of an engine's host" in two.ultra("reserve", "api", "--hold", **env).stderr

        own = {"ULTRA_PORTS_STATE": "/state"}  # their own network namespaces are two scopes
        for runner in (one, two):
            run = runner.ultra("reserve", "api", str(port), "--project", "own", **own)
            assert run.status == 0, run.stderr
    finally:
        engine.reap()
        engine("rmi", "--force", image)


def test_an_engine_that_does_not_answer_is_said(shop: Shop, tmp_path: Path) -> None:
    env = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    run = shop("reserve", "api", "--scope", "engine", env=env)
    assert (run.status, run.stdout) == (5, "")
    assert "none.sock" in run.stderr


# --- bad input ------------------------------------------------------------------------------------


NONSENSE = [
    ["reserve"],
    ["reserve", "8085"],
    ["reserve", ""],
    ["reserve", "a b", "8085"],
    ["reserve", "api", "0"],
    ["reserve", "api", "nonsense"],
    ["reserve", "api", "--ttl", "8"],
    ["reserve", "api", "--ttl", "0s"],
    ["reserve", "api", "--for", "0"],
    ["reserve", "api", "--for", "-1"],
    ["reserve", "api", "--for", "99999999999"],
    ["reserve", "api", "--for", "1", "--hold"],
    ["reserve", "api", "--scope", "moon"],
    ["reserve", "api", "--project", " "],
    ["reserve", "api", "192.0.2.1:8085"],
    ["release"],
    ["release", "api", "--all"],
    ["release", "@"],
    ["reservations", "--scope", "moon"],
]


def test_bad_input_is_one_line_and_touches_nothing(shop: Shop) -> None:
    refused(((words, "") for words in NONSENSE), cwd=shop.root)
    assert shop.leases() == []


def test_an_unknown_service_needs_a_port(tmp_path: Path) -> None:
    run = ultra("reserve", "zzz", cwd=tmp_path)
    assert (run.status, run.stdout) == (2, "")
    assert "'zzz': expected a PORT or the name of a service" in run.stderr


@pytest.mark.root
def test_what_this_user_may_not_bind_is_not_proved_free(as_nobody: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o1777)
        env = {"ULTRA_PORTS_STATE": folder}
        run = ultra("reserve", "x", "1", prefix=as_nobody, env=env, cwd=Path("/"))
        assert (run.status, run.stdout) == (4, ""), run.stderr
        assert "1/tcp cannot be proved free" in run.stderr
        assert ultra("reservations", "--json", env=env).json["reservations"] == []


def test_names_of_strangers_are_escaped(shop: Shop, tmp_path: Path) -> None:
    odd = Shop(tmp_path / "odd\x1b[31m\nname", "plain")
    assert odd("reserve", "api").status == 0
    run = shop("reserve", "api", str(odd.api))
    assert run.status == 1
    assert "\x1b" not in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_json_of_reserve(shop: Shop) -> None:
    run = shop("reserve", "api", "--json")
    [lease] = contracts.read(run.stdout)["reservations"]
    assert lease["label"] == f"{shop.api}/tcp"
    assert run.json["command"] == "reserve"
    released = shop("release", "api", "--json").json
    assert [each["token"] for each in released["reservations"]] == [lease["token"]]


def test_the_table_is_empty_when_nothing_is_reserved(shop: Shop) -> None:
    run = shop("reservations")
    assert (run.status, run.stdout) == (0, "")
    assert "nothing is reserved" in run.stderr
