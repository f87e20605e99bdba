"""When no engine has to be waited for: every port served, every owner known, none an engine's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from resolver.gather import engine_choice, namespaces
from resolver.gather.redirects import UNREAD, Nat
from resolver.host.peer import Listener
from resolver.model import (
    Binding,
    EngineState,
    Pid,
    Policy,
    PortNumber,
    PortRequest,
    Process,
    ProcessIdentity,
    Redirect,
    Socket,
    SocketState,
    Transport,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

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


ENGINE = EngineState("unix:///run/e.sock")
LIMIT = 2.0


@pytest.fixture(autouse=True)
def ports_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published ports of every engine at a socket are ours."""
    monkeypatch.setattr(engine_choice, "is_engine_of_ours", lambda _: True)


def patience(
    requests: Sequence[PortRequest] | None,
    sockets: Sequence[Socket],
    processes: Sequence[Process],
    known: Sequence[EngineState] = (ENGINE,),
    nat: Nat = Nat(readable=True),  # noqa: B008 - frozen
    *,
    complete: bool = False,
) -> float:
    policy = Policy(complete=complete, docker_timeout_seconds=LIMIT)
    return engine_choice.patience_seconds(known, requests, sockets, processes, nat, policy)


def test_a_local_server_needs_no_engine() -> None:
    line = [process(), process(PARENT, "bash")]
    assert patience([PORT], [served()], line) == 0
    assert patience([PORT], [served()], line, complete=True) == LIMIT / 8


def test_rules_of_the_packet_filter_may_lead_to_a_container() -> None:
    rule = Redirect(Transport.TCP, 8085, 8085, "10.9.0.1:80", "iptables chain DOCKER", ())
    for nat in (UNREAD, Nat(readable=True, redirects=(rule,))):
        assert patience([PORT], [served()], [process()], nat=nat) == LIMIT


def test_where_every_port_is_asked_for_engines_are() -> None:
    assert patience(None, [served()], [process()]) == LIMIT


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
    assert patience([PORT], [socket], [process()]) == LIMIT


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
    assert patience([PORT], [served()], [process(), other]) == LIMIT


def test_a_second_port_that_nobody_serves() -> None:
    free = PortRequest(PortNumber(8086))
    assert patience([PORT, free], [served()], [process()]) == LIMIT


def test_an_engine_whose_ports_are_not_known_to_be_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_choice, "is_engine_of_ours", lambda _: False)
    assert patience([PORT], [served()], [process()]) == LIMIT


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
    monkeypatch.setattr(namespaces, "listener", lambda *_: Listener(Pid(os.getpid())))
    monkeypatch.setattr(namespaces, "own_container_id", lambda: container)
    monkeypatch.setattr(namespaces, "name_of", lambda _: listener)
    assert namespaces.is_engine_of_ours("/run/e.sock") is ours


def test_an_engine_behind_no_socket() -> None:
    found = (ENGINE, EngineState("tcp://10.0.0.9:2375", chosen=False))
    assert patience([PORT], [served()], [process()], found) == LIMIT


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
    monkeypatch.setattr(engine_choice, "is_engine_of_ours", lambda path: path == "/run/e.sock")
    assert patience([PORT], [served()], [process()], (ENGINE, stranger)) == 0
