"""Answers of the kernel over netlink, as a socket of the test's own gives them."""

from __future__ import annotations

import errno
import os
import socket
import struct

import pytest

from resolver.host.netfilter import tells
from resolver.host.netlink import attributes, dump

DONE, ERROR, INTERRUPTED = 3, 2, 0x10


def message(kind: int, body: bytes = b"", flags: int = 2) -> bytes:
    """One message, padded as the kernel does."""
    header = struct.pack("=IHHII", 16 + len(body), kind, flags, 1, os.getpid())
    return header + body + bytes(-len(body) % 4)


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def dumped(*blocks: bytes) -> list[bytes]:
    """What a dump yields where these blocks are the answer."""
    ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, kernel:
        for block in blocks:
            kernel.send(block)
        found = list(dump(ours, 20, b"asked"))
        assert kernel.recv(100)[16:] == b"asked"
        return found


def test_an_answer_may_come_in_several_blocks() -> None:
    first = message(20, b"one") + message(20, b"three")
    assert dumped(first, message(20, b"more"), message(DONE)) == [b"one", b"three", b"more"]


@pytest.mark.parametrize("kind", [ERROR, DONE])
@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOENT])
def test_a_refusal_keeps_its_number(kind: int, number: int) -> None:
    """Where a module is missing, the kernel's dump is done at once, with an error."""
    with pytest.raises(OSError, match="netlink") as refused:
        dumped(message(kind, struct.pack("=i", -number)))
    assert refused.value.errno == number


def test_a_dump_that_went_well_says_so() -> None:
    assert dumped(message(20, b"one") + message(DONE, struct.pack("=i", 0))) == [b"one"]


def test_a_list_that_changed_meanwhile_is_none() -> None:
    with pytest.raises(InterruptedError):
        dumped(message(20, b"one", flags=2 | INTERRUPTED), message(DONE))


def test_attributes_are_padded_and_marked() -> None:
    body = b"head" + attribute(1, b"nat\0") + attribute(0x8004, b"x") + attribute(6, b"12345")
    assert list(attributes(body, 4)) == [(1, b"nat\0"), (4, b"x"), (6, b"12345")]


@pytest.mark.parametrize(
    ("expressions", "telling"),
    [
        (b"meta\0masq\0", False),
        (b"\x08\0\x01\0nat\0", True),
        (b"target\0\0DNAT\0", True),
        (b"redir\0", True),
        (b"target\0\0TPROXY\0", True),
        (b"tproxy\0", True),
        (b"immediate\0KUBE-SERVICES\0", False),  # what that chain leads to tells
    ],
)
def test_a_table_called_nat_is_no_rule_that_does_it(expressions: bytes, *, telling: bool) -> None:
    rule = bytes(4) + attribute(1, b"nat\0") + attribute(2, b"DNAT\0") + attribute(4, expressions)
    assert tells(rule) is telling
