"""Whose engine says what about whose ports: where only the engine's word would tell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from resolver.gather import engine_queries, engines
from resolver.gather.holders import holders
from resolver.health.docker_events import ContainerRuns
from resolver.model import (
    Binding,
    Classification,
    Container,
    EngineState,
    Holder,
    HolderReport,
    Kind,
    Pid,
    PortNumber,
    PortReport,
    PortRequest,
    Process,
    ProcessIdentity,
    Snapshot,
    Socket,
    SocketState,
    Transport,
    Verdict,
)
from resolver.report.listing import listing
from resolver.report.story import stories
from resolver.report.style import TextStyle
from tests.lab.cli import COMMAND
from tests.lab.ports import free_port
from tests.lab.processes import stays, unavailable
from tests.lab.strangers import stranger

if TYPE_CHECKING:
    from tests.lab.processes import Lab

ID = "0123456789abcdef" * 4
BINDING = Binding(Transport.TCP, "0.0.0.0", PortNumber(8085))
THEIRS, ROOT = 1000, 0


@pytest.mark.root
@pytest.mark.parametrize(
    ("uids", "believed"),
    [
        ("--ruid=0 --euid=0", True),
        ("--ruid=65533 --euid=0", False),
        ("--ruid=0 --euid=65533", False),
        ("--reuid=65533", False),
    ],
)
def test_a_daemon_has_to_be_wholly_roots(uids: str, *, believed: bool) -> None:
    sleeper = "print(flush=True); import sys; sys.stdin.read()"
    setpriv = shutil.which("setpriv") or unavailable("setpriv(1) is missing")
    with subprocess.Popen(
        [setpriv, *uids.split(), "--clear-groups", sys.executable, "-S", "-c", sleeper],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as popen:
        assert popen.stdout is not None
        popen.stdout.readline()
        found = Process(ProcessIdentity(Pid(popen.pid), 0), "dockerd", ("dockerd",), uid=0)
        assert bool(list(engines.daemon_sockets([found]))) is believed
        popen.kill()
        popen.wait()
        assert not list(engines.daemon_sockets([found]))  # what has gone says nothing


def claimed(uid: int | None, *, foreign: bool) -> Container:
    return Container(
        ID, "web", "unix:///e.sock", state="running", published=(BINDING,), uid=uid, foreign=foreign
    )


def held(
    container: Container,
    socket_uid: int | None,
    process_uid: int,
    **facts: Any,  # noqa: ANN401
) -> list[tuple[SocketState, str | None]]:
    """What holds the port, and the engine of its container, where a process like this has it."""
    facts = {"name": "rootlesskit", "cgroups": ("/",), **facts}
    owner = Process(ProcessIdentity(Pid(4711), 1), uid=process_uid, **facts)
    entry = Socket(BINDING, SocketState.LISTENING, 7, uid=socket_uid, owners=(owner.identity,))
    seen = Snapshot((entry,), (owner,), (container,))
    return [
        (each.state, each.container.engine if each.container else None)
        for each in holders(seen, [PortRequest(BINDING.port)])
    ]


@pytest.mark.parametrize(
    ("socket_uid", "process_uid", "explained"),
    [
        (THEIRS, THEIRS, True),
        (THEIRS, ROOT, False),
        (ROOT, THEIRS, False),
        (ROOT, ROOT, False),
        (None, THEIRS, False),
    ],
)
def test_another_users_engine_explains_what_is_wholly_that_users(
    socket_uid: int | None, process_uid: int, *, explained: bool
) -> None:
    engine = "unix:///e.sock" if explained else None
    found = held(claimed(THEIRS, foreign=True), socket_uid, process_uid)
    assert found == [(SocketState.LISTENING, engine)]
    found = held(claimed(ROOT, foreign=False), socket_uid, process_uid)
    assert found == [(SocketState.LISTENING, "unix:///e.sock")]


def test_another_users_engine_publishes_nothing_without_a_socket() -> None:
    requests = [PortRequest(BINDING.port)]
    assert not holders(Snapshot(containers=(claimed(THEIRS, foreign=True),)), requests)
    assert holders(Snapshot(containers=(claimed(ROOT, foreign=False),)), requests)


DELEGATED = f"/user.slice/user-1000.slice/user@1000.service/app.slice/docker-{ID}.scope"


@pytest.mark.parametrize(
    ("path", "uid", "engine"),
    [
        (f"/system.slice/docker-{ID}.scope", ROOT, "unix:///e.sock"),
        (DELEGATED, ROOT, ""),
        (DELEGATED, None, ""),
        (DELEGATED, THEIRS, "unix:///e.sock"),
    ],
)
def test_a_cgroup_that_a_user_can_make_names_no_container_of_roots(
    path: str, uid: int | None, engine: str
) -> None:
    """Or root would stop any container that a user's process calls its own."""
    container = claimed(uid, foreign=uid == THEIRS)
    found = held(container, THEIRS, THEIRS, name="node", cgroups=(path,))
    assert (SocketState.LISTENING, engine) in found


def test_a_container_that_a_cgroup_names_hides_no_published_port() -> None:
    other = f"/user@1000.service/docker-{'f' * 64}.scope"
    found = held(claimed(ROOT, foreign=False), THEIRS, THEIRS, name="node", cgroups=(other,))
    assert found == [(SocketState.LISTENING, ""), (SocketState.PUBLISHED, "unix:///e.sock")]


def test_another_users_engine_is_never_the_same_as_ours() -> None:
    """Or it could say that a remote engine's ports are this machine's."""
    container = claimed(THEIRS, foreign=True)
    remote = engine_queries._EngineAnswer(  # noqa: SLF001
        EngineState("tcp://far", elsewhere="it is far"), (container,)
    )
    near = EngineState("unix:///run/user/1000/docker.sock", chosen=False)
    for foreign in (True, False):
        local = engine_queries._EngineAnswer(replace(near, foreign=foreign), (container,))  # noqa: SLF001
        first, *rest = engine_queries._distinct([remote, local])  # noqa: SLF001
        assert (bool(first.engine.elsewhere), len(rest)) == (foreign, int(foreign))


# --- events ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        4,
        [[]],
        {"Action": "start", "Actor": {"ID": "x"}},
        {"Action": "start", "Actor": {"ID": 5}},
        {"Action": ["start"], "Actor": {"ID": ID}},
        {"Action": "start", "Actor": "x"},
    ],
)
def test_an_event_that_makes_no_sense_is_left_out(event: object) -> None:
    runs = ContainerRuns()
    runs.take(event)
    assert (runs.starts, runs.ended) == ({}, set())
    runs.take({"Action": "start", "Actor": {"ID": ID}})
    assert runs.starts == {ID: 1}


@pytest.mark.root
def test_a_users_engine_is_not_listened_to(lab: Lab) -> None:
    """`watch` keeps a stream of events open to each engine, and would count a stranger's."""
    port = free_port()
    lab.start("answering", port)
    with stranger() as other:
        other.claims(port)
        other.engine(lab, other.docker)
        argv = [*other.inside, COMMAND, "watch", "--json", str(port)]
        env = {**os.environ, "DOCKER_HOST": "unix:///nonexistent.sock"}
        with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as watch:
            assert watch.stdout is not None
            try:
                assert any('"held"' in line for line in watch.stdout)
                assert stays(lambda: other.asked == [])
            finally:
                watch.terminate()


# --- the table ------------------------------------------------------------------------------------


def test_a_name_reaches_no_terminal_as_it_is() -> None:
    container = Container(ID, "\x1b[2J\x07evil", "unix:///e.sock")
    found = Classification(
        Holder(BINDING, SocketState.PUBLISHED, container=container), Kind.CONTAINER
    )
    request = PortRequest(BINDING.port)
    ports = [PortReport(request, Verdict.HELD, holders=(HolderReport(found),))]
    for text in (listing(ports, TextStyle()), stories(ports)):
        assert "\\x1b[2J" in text
        assert text.replace("\n", "").isprintable()
