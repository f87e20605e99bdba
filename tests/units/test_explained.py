"""When no engine has to be asked: every port served, every owner known, nobody working for one."""

from __future__ import annotations

import os
from typing import Any

import pytest

from resolver.gather import explained, places
from resolver.model import (
    Binding,
    EngineState,
    Pid,
    PortNumber,
    PortRequest,
    Process,
    ProcessIdentity,
    Socket,
    SocketState,
    Transport,
)

OWNER = ProcessIdentity(Pid(4711), 1)
PARENT = ProcessIdentity(Pid(47), 1)
PORT = PortRequest(PortNumber(8085))
ID = "0123456789abcdef" * 4


def served(**changes: Any) -> Socket:  # noqa: ANN401 - any field of a socket
    fields: dict[str, Any] = {
        "binding": Binding(Transport.TCP, "0.0.0.0", PortNumber(8085)),
        "state": SocketState.LISTENING,
        "inode": 7,
        "owners": (OWNER,),
    }
    return Socket(**(fields | changes))


def process(identity: ProcessIdentity = OWNER, name: str = "node", **facts: Any) -> Process:  # noqa: ANN401
    return Process(identity, name, (name,), **facts)


@pytest.fixture(autouse=True)
def one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One engine, whose ports are ours."""
    monkeypatch.setattr(explained, "known_engines", lambda _: (EngineState("unix:///run/e.sock"),))
    monkeypatch.setattr(explained, "is_engine_of_ours", lambda _: True)


def test_a_local_server_needs_no_engine() -> None:
    (state,) = explained.unasked([PORT], [served()], [process(), process(PARENT, "bash")])
    assert state == EngineState("unix:///run/e.sock", asked=False)


@pytest.mark.parametrize(
    "socket",
    [
        served(owners=()),
        served(owners=(OWNER, PARENT)),
        served(inode=0, owners=()),
        served(state=SocketState.CONNECTED),
        served(state=SocketState.CLOSING),
        served(binding=Binding(Transport.UDP, "0.0.0.0", PortNumber(8085))),
    ],
    ids=["hidden", "half hidden", "the kernel's", "a connection", "closing", "another transport"],
)
def test_what_explains_nothing(socket: Socket) -> None:
    assert explained.unasked([PORT], [socket], [process()]) == ()


@pytest.mark.parametrize(
    "other",
    [
        process(name="docker-proxy"),
        process(name="rootlesskit"),
        process(name="ssh"),
        process(PARENT, "containerd-shim-runc-v2"),
        process(PARENT, "dockerd"),
        process(cgroups=(f"/system.slice/docker-{ID}.scope",)),
        process(PARENT, "conmon", cgroups=(f"/machine.slice/libpod-{ID}.scope",)),
        process(cgroups=("/", f"/kubepods/besteffort/pod1/{ID}")),
    ],
)
def test_whoever_works_for_an_engine(other: Process) -> None:
    assert explained.unasked([PORT], [served()], [process(), other]) == ()


def test_a_second_port_that_nobody_serves() -> None:
    free = PortRequest(PortNumber(8086))
    assert explained.unasked([PORT, free], [served()], [process()]) == ()


def test_an_engine_whose_ports_are_not_known_to_be_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explained, "is_engine_of_ours", lambda _: False)
    assert explained.unasked([PORT], [served()], [process()]) == ()


@pytest.mark.parametrize(
    ("listener", "container", "ours"),
    [
        ("dockerd", None, True),
        ("python3", None, True),
        ("socat", None, False),
        ("ssh", None, False),
        ("dockerd", ID, True),
        ("systemd", ID, True),
        ("python3", ID, False),
        ("socat", ID, False),
    ],
)
def test_a_relay_is_no_engine(
    listener: str, container: str | None, monkeypatch: pytest.MonkeyPatch, *, ours: bool
) -> None:
    monkeypatch.setattr(places, "listener_pid", lambda *_: Pid(os.getpid()))
    monkeypatch.setattr(places, "own_container_id", lambda: container)
    monkeypatch.setattr(places, "_name", lambda _: listener)
    assert places.is_engine_of_ours("/run/e.sock") is ours


def test_an_engine_behind_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    found = (EngineState("unix:///run/e.sock"), EngineState("tcp://10.0.0.9:2375", chosen=False))
    monkeypatch.setattr(explained, "known_engines", lambda _: found)
    assert explained.unasked([PORT], [served()], [process()]) == ()


@pytest.mark.parametrize(
    "stranger",
    [
        EngineState("unix:///run/user/1000/docker.sock", chosen=False, uid=1000, foreign=True),
        EngineState("unix:///tmp/x.sock", "somebody else listens", chosen=False, forbidden=True),
    ],
)
def test_another_users_engine_need_not_be_known(
    stranger: EngineState, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = EngineState("unix:///run/e.sock")
    monkeypatch.setattr(explained, "known_engines", lambda _: (own, stranger))
    monkeypatch.setattr(explained, "is_engine_of_ours", lambda path: path == "/run/e.sock")
    found = explained.unasked([PORT], [served()], [process()])
    assert [(each.endpoint, each.asked) for each in found] == [
        (own.endpoint, False),
        (stranger.endpoint, False),
    ]
