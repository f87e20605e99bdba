"""Work that is shared among forked children: everything is found, whatever becomes of a child."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from resolver.gather.owners import owners_of
from resolver.host.identity import identify
from resolver.host.shares import shared
from resolver.model import Pid
from tests.lab.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.lab.processes import Lab

    Work = Callable[[Sequence[int]], Iterator[tuple[int, int]]]

WORK = range(1, 1001)
EVERYTHING = {(number, number * number) for number in WORK}
PARENT = os.getpid()


def squares(part: Sequence[int]) -> Iterator[tuple[int, int]]:
    return ((number, number * number) for number in part)


def where(part: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Which process works on each."""
    return ((number, os.getpid()) for number in part)


def broken(part: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Breaks half-way in a child."""
    for number in part:
        if number > 500 and os.getpid() != PARENT:
            raise ValueError("a child must not tell this to anybody")
        yield number, number * number


def killed(part: Sequence[int]) -> Iterator[tuple[int, int]]:
    """A child is killed, as by the kernel for want of memory."""
    for number in part:
        if os.getpid() != PARENT:
            os.kill(os.getpid(), signal.SIGKILL)
        yield number, number * number


def children() -> set[int]:
    """Whoever is ours, be it as a zombie."""
    return {child.pid for child in psutil.Process().children()}


@pytest.mark.parametrize("work", [squares, broken, killed])
def test_everything_is_found_once(work: Work, capfd: pytest.CaptureFixture[str]) -> None:
    before = children()
    found = shared(WORK, work)
    assert len(found) == len(EVERYTHING)
    assert set(found) == EVERYTHING
    assert capfd.readouterr() == ("", "")
    assert children() <= before


def test_it_is_shared_where_there_are_processors() -> None:
    workers = {pid for _, pid in shared(WORK, where)}
    assert len(workers) == min(4, len(os.sched_getaffinity(0)))


def test_nothing_is_forked_beside_threads() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        assert {pid for _, pid in shared(WORK, where)} == {os.getpid()}
    finally:
        over.set()
        thread.join()


def test_children_that_nobody_waits_for() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert set(shared(WORK, squares)) == EVERYTHING
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_owners_are_found_in_a_crowd(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resolver.gather.owners._CROWD", 1)
    server = lab.start("prefork", free_port())
    pids = [server.pid, *(child.pid for child in lab.processes())]
    inodes = [number for pid in pids for number in sockets(pid)]
    owners = owners_of(inodes)
    monkeypatch.setattr("resolver.gather.owners._CROWD", 1 << 30)
    assert owners == owners_of(inodes)
    assert any(identify(Pid(server.pid)) in each and len(each) > 1 for each in owners.values())


def sockets(pid: int) -> Iterator[int]:
    for path in Path(f"/proc/{pid}/fd").iterdir():
        link = str(path.readlink())
        if link.startswith("socket:["):
            yield int(link[8:-1])
