"""Where `who` looks for owners first: among some processes, if each socket is found there."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from resolver import gather
from resolver.host import processes
from resolver.model import Binding, Pid, PortNumber, Redirect, Scan, Socket, SocketState, Transport

if TYPE_CHECKING:
    from collections.abc import Iterator

ME, PARENT = Pid(os.getpid()), Pid(os.getppid())


@pytest.fixture
def ours() -> Iterator[Socket]:
    """A socket of this process, made in a cgroup that tells nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = PortNumber(server.getsockname()[1])
        inode = os.fstat(server.fileno()).st_ino
        binding = Binding(Transport.TCP, "127.0.0.1", port)
        yield Socket(binding, SocketState.LISTENING, inode=inode, cgroup_id=1)


def rule(port: int, transport: Transport = Transport.TCP) -> Redirect:
    return Redirect(transport, port, port, "10.9.0.1:80", "iptables chain DOCKER", ())


def test_a_forwarder_is_found_among_forwarders(
    ours: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "pids_of", lambda name: [ME] if name == "docker-proxy" else [])
    assert gather._near([ours], [rule(ours.binding.port)]) == (Scan.FORWARDERS, (ME,))  # noqa: SLF001


@pytest.mark.parametrize("pids", [[], [PARENT]])
def test_what_is_not_among_them_is_looked_for_everywhere(
    ours: Socket, pids: list[Pid], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "pids_of", lambda _: pids)
    assert gather._near([ours], [rule(ours.binding.port)]) == (Scan.COMPLETE, ())  # noqa: SLF001


def test_without_a_rule_for_each_port_no_forwarder_is_expected(
    ours: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "pids_of", lambda _: [ME])
    port = ours.binding.port
    for rules in ([], [rule(port, Transport.UDP)], [rule(port - 1)]):
        assert gather._near([ours], rules) == (Scan.COMPLETE, ())  # noqa: SLF001
