"""How often a holder's processes are looked at: once, however many ports they hold."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

from resolver.collateral import inhibitors, with_collateral
from resolver.errors import CommandFailedError
from resolver.gather import gather, holders
from resolver.host.descriptors import open_files
from resolver.model import Classification, Kind, Pid, Policy, PortRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pytest

    from resolver.model import Completed


def unanswered(argv: Sequence[str], **_: object) -> Completed:
    raise CommandFailedError(f"{argv[0]} is not asked")


def test_a_process_with_many_ports_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Pid] = []

    def counted(pid: Pid) -> Iterator[tuple[int, str]]:
        looked.append(pid)
        return open_files(pid)

    monkeypatch.setattr(inhibitors, "open_files", counted)
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(20)]
        requests = [PortRequest(each.getsockname()[1]) for each in sockets]
        snapshot = gather(requests, Policy(use_docker=False), (), unanswered)
        found = holders.holders(snapshot, requests)
        local = [Classification(each, Kind.LOCAL) for each in found]

        judged = with_collateral(local, snapshot)

    assert len(judged) == len(sockets)
    assert looked.count(Pid(os.getpid())) == 1
