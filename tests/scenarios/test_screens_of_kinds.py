"""One holder takes six rows of an 80-column terminal at most, whatever it is."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import psutil
import pytest
from msgspec import Struct

from tests.lab.cli import ultra
from tests.lab.compose import published, stack
from tests.lab.golden import hold
from tests.lab.known import WEB_TERMINAL
from tests.lab.ports import free_port, is_free
from tests.lab.processes import wait_until
from tests.lab.screen import plain
from tests.lab.supervisord import program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.lab.checkouts import Checkouts
    from tests.lab.engine import Engine
    from tests.lab.processes import Lab
    from tests.lab.screen import Screen
    from tests.lab.supervisord import Supervisor

pytestmark = pytest.mark.slow

MOST, WIDTH = 6, 80
QUICK = ("--settle", "0.3", "--grace", "1")
LONG = "a-directory-with-a-long-name/as-the-worktrees-of-agents-have-them"
OPTIONS = [f"--option-{number}=value" for number in range(5)]
PYTHON = "/usr/bin/python3"
SERVER = """\
import socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(600)
"""
CLIENT = """\
import socket, sys, time
with socket.create_server(("127.0.0.1", 0)) as service:
    own = ("127.0.0.1", int(sys.argv[1]))
    connection = socket.create_connection(service.getsockname(), source_address=own)
    time.sleep(600)
"""


class Bed(Struct):
    """Where something is to hold a port; `prefix` is of whoever looks at it."""

    request: pytest.FixtureRequest
    lab: Lab
    home: Path
    folder: Path
    port: int
    prefix: tuple[str, ...] = ()


def a_process(bed: Bed) -> None:
    (bed.folder / "serve.py").write_text(SERVER)
    bed.lab.command(PYTHON, "serve.py", str(bed.port), *OPTIONS, cwd=bed.folder)


def a_process_with_workers(bed: Bed) -> None:
    (bed.folder / "serve.py").write_text(SERVER.replace("time.", "import os; os.fork(); time."))
    master = bed.lab.command(PYTHON, "serve.py", str(bed.port), *OPTIONS, cwd=bed.folder)
    wait_until(lambda: psutil.Process(master.pid).children(), "it has a worker")


def a_loop(bed: Bed) -> None:
    (bed.folder / "serve.py").write_text(SERVER)
    loop = f"while true; do {PYTHON} serve.py {bed.port}; done"
    bed.lab.command("/bin/sh", "-c", loop, cwd=bed.folder)


def a_web_terminal(bed: Bed) -> None:
    (bed.folder / "web_terminal.py").write_text(WEB_TERMINAL)
    server = bed.lab.command(PYTHON, "web_terminal.py", str(bed.port), *OPTIONS, cwd=bed.folder)
    wait_until(
        lambda: [each.name() for each in psutil.Process(server.pid).children()] == ["sh"],
        "its shell runs",
    )


def a_supervised_program(bed: Bed) -> None:
    supervisor: Supervisor = bed.request.getfixturevalue("supervisor")
    (bed.folder / "serve.py").write_text(SERVER)
    command = f"{PYTHON} {bed.folder}/serve.py {bed.port}"
    supervisor.start(program("web", f"{command}\ndirectory={bed.folder}", "true"))


def another_checkouts_server(bed: Bed) -> None:
    checkouts: Checkouts = bed.request.getfixturevalue("checkouts")
    checkouts.serve(checkouts.main, bed.port, leased=True)
    bed.folder = checkouts.other


def an_outgoing_connection(bed: Bed) -> None:
    (bed.folder / "connect.py").write_text(CLIENT)
    bed.lab.command(PYTHON, "connect.py", str(bed.port), cwd=bed.folder)


def what_this_user_may_not_see(bed: Bed) -> None:
    bed.prefix = bed.request.getfixturevalue("as_nobody")
    a_process(bed)
    for folder in (bed.folder, *bed.folder.parents[:4]):
        folder.chmod(0o755)


def a_process_on_a_port_that_is_reserved(bed: Bed) -> None:
    elsewhere = bed.folder.parent / "another-checkout-with-a-long-name-of-its-own"
    elsewhere.mkdir()
    (elsewhere / "ultra-ports.toml").write_text(f"[services]\napi = {bed.port}\n")
    assert ultra("reserve", "api", cwd=elsewhere).status == 0
    a_process(bed)


def a_service_of_compose(bed: Bed) -> None:
    engine: Engine = bed.request.getfixturevalue("engine")
    services = {"a-service-with-a-long-name-as-people-give-them": published(bed.port)}
    made = stack(engine, bed.folder, services)
    shop = made.__enter__()
    bed.request.addfinalizer(lambda: made.__exit__(None, None, None))
    shop("up", "--detach")


def a_container(bed: Bed) -> None:
    engine: Engine = bed.request.getfixturevalue("engine")
    engine.publish(f"{bed.port}:80", options=["--restart=always"]).wait_for(bed.port)


def a_container_on_the_hosts_network(bed: Bed) -> None:
    engine: Engine = bed.request.getfixturevalue("engine")
    engine.start("--network=host", listen=bed.port).wait_for(bed.port)


FREED: dict[Callable[[Bed], None], str] = {
    a_process: "start it again: /usr/bin/python3 serve.py PORT --option-0=value ",
    a_process_with_workers: "start it again: ",
    a_loop: "start it again: ",
    a_process_on_a_port_that_is_reserved: "start it again: /usr/bin/python3 serve.py PORT ",
    a_service_of_compose: "start it again: docker start ",
    a_container: "start it again: docker start ",
    a_container_on_the_hosts_network: "start it again: docker start ",
}
LEFT: dict[Callable[[Bed], None], str] = {
    a_web_terminal: "to free it: ultra-ports resolve --accept-loss PORT/tcp   # ends that, too",
    a_supervised_program: "to free it: supervisorctl -c ",
    another_checkouts_server: "to free it: ultra-ports resolve --take PORT/tcp ",
    an_outgoing_connection: "to free it: kill ",
    what_this_user_may_not_see: "run: sudo ",
}
ENGINE = {a_service_of_compose, a_container, a_container_on_the_hosts_network}
KINDS = [
    pytest.param(kind, marks=[pytest.mark.engine] if kind in ENGINE else [], id=kind.__name__)
    for kind in (*FREED, *LEFT)
]


@pytest.fixture
def bed(request: pytest.FixtureRequest, lab: Lab, tmp_path: Path) -> Bed:
    """A directory with a long name, and a port that is free so far."""
    folder = tmp_path / LONG
    folder.mkdir(parents=True)
    return Bed(request, lab, tmp_path, folder, free_port())


def rows(told: str, last: str) -> list[str]:
    """The rows, which fit, and of which the last one or its command says what is to be run."""
    found = plain(told)
    assert len(found) <= MOST, told
    assert max(map(len, found)) <= WIDTH, told
    commands = [row for row in found if row.startswith(f"  {last}")]
    assert commands, told
    further = found[found.index(commands[-1]) + 1 :]
    assert all(row.startswith("    ") for row in further), told
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_one_holder_takes_six_rows(kind: Callable[[Bed], None], bed: Bed, screen: Screen) -> None:
    kind(bed)
    wait_until(lambda: not is_free(bed.port), "the port is held", 60)
    port, cwd = str(bed.port), str(bed.folder)
    docker = () if kind in ENGINE else ("--no-docker",)
    ending = (FREED | LEFT)[kind].replace("PORT", port)
    begins = f"to free it: ultra-ports resolve {port}" if kind in FREED else ending
    looks = [
        (
            shlex.join(("ultra-ports", *words, "8085")),
            ultra(*words, *docker, port, cwd=bed.folder, prefix=bed.prefix),
        )
        for words in (("who",), ("resolve", "--dry-run"), ("resolve", "--dry-run", "--json"))
    ]
    hold(kind.__name__, looks, {port: "8085", str(bed.home): "/srv"})

    def told(*words: str) -> str:
        return screen(*words, *docker, port, cwd=cwd, environment=shlex.join(bed.prefix))

    rows(told("who"), begins)
    dry = rows(told("resolve", "-n"), begins if kind in LEFT else "to free it: ")
    done = rows(told("resolve", *QUICK), ending)

    word = {True: "would free", False: "held" if bed.prefix else "still held"}[kind in FREED]
    assert dry[0].startswith(f"{port}/tcp {word}")
    assert done[0].startswith(f"{port}/tcp {'freed' if kind in FREED else word}")
    assert any(" is free" in row for row in done) is (kind in LEFT), done


@pytest.mark.engine
@pytest.mark.parametrize("policy", ["no", "always"])
def test_a_restart_policy_is_told_where_it_changes_something(engine: Engine, policy: str) -> None:
    port = free_port()
    engine.publish(f"{port}:80", options=[f"--restart={policy}"]).wait_for(port)
    said = f"restart policy {policy}"
    told = ultra("who", str(port)).stdout
    assert (f"{said}: it stays stopped until the engine or the machine" in told) is (
        policy == "always"
    )
    assert (said in told) is (policy == "always")
    assert said in ultra("who", "-v", str(port)).stdout
