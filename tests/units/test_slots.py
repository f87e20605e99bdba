"""Whose connection has to leave `serve`, and whose one is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.health.slots import Slots, peer_key
from resolver.host.peer import uid_of_peer

if TYPE_CHECKING:
    from collections.abc import Hashable


class Connection:
    """One connection of somebody's."""

    def __init__(self, peer: Hashable) -> None:
        self.peer = peer
        self.busy = False


@given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), max_size=200), st.booleans())
def test_who_has_few_connections_keeps_them(
    others: list[tuple[int, bool]],
    quiet: bool,  # noqa: FBT001
) -> None:
    slots: Slots[Connection] = Slots(8)
    mine = Connection("me")
    assert slots.enter(mine) is None
    mine.busy = not quiet
    inside = {mine}
    for peer, busy in others:
        new = Connection(peer)
        inside.add(new)
        gone = slots.enter(new)
        assert gone is not mine
        inside -= {gone} if gone else set()
        assert len(inside) <= 8
        new.busy = busy


def test_the_oldest_that_is_not_being_answered_leaves() -> None:
    slots: Slots[Connection] = Slots(3)
    first, second, third, fourth, fifth = (Connection("a") for _ in range(5))
    for each in (first, second, third):
        assert slots.enter(each) is None
    first.busy = True
    assert slots.enter(fourth) is second
    third.busy = fourth.busy = True
    assert slots.enter(fifth) is fifth
    assert slots.enter(Connection("b")) is first
    slots.leave(third)
    assert slots.enter(Connection("b")) is None


def test_who_somebody_is() -> None:
    assert peer_key("127.0.0.1", 1000) == peer_key("::1", 1000)
    assert peer_key("127.0.0.1", 1000) != peer_key("127.0.0.1", None)
    assert peer_key("2001:db8::1", None) == peer_key("2001:db8::2", None)
    assert peer_key("2001:db8:0:1::1", None) != peer_key("2001:db8::1", None)
    assert peer_key("::ffff:192.0.2.1", None) == peer_key("192.0.2.1", None)


@pytest.mark.native
@pytest.mark.parametrize(
    ("bound", "asked"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "127.0.0.1")]
)
def test_whose_the_other_end_is(as_nobody: tuple[str, ...], bound: str, asked: str) -> None:
    family = socket.AF_INET6 if ":" in bound else socket.AF_INET
    dual = bound == "::"
    with socket.create_server((bound, 0), family=family, dualstack_ipv6=dual) as listener:
        listener.settimeout(20)
        port = listener.getsockname()[1]
        script = f"import socket; s = socket.create_connection(({asked!r}, {port})); input()"
        argv = [*as_nobody, sys.executable, "-I", "-c", script]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, cwd="/") as client:
            connection, _ = listener.accept()
            with connection:
                assert uid_of_peer(connection) == 65534
                client.communicate(b"\n")
                assert uid_of_peer(connection) is None
        with socket.create_connection((asked, port)) as own, listener.accept()[0] as connection:
            assert uid_of_peer(connection) == os.geteuid()
            assert uid_of_peer(own) == os.geteuid()
