"""A port that is kept in the foreground: its lease is renewed, and ends with a signal."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from resolver.cli import keeping
from resolver.errors import ReservedError
from resolver.leases.model import Claim
from resolver.leases.owner import here, myself
from resolver.leases.stores.ledger import Ledger
from resolver.model import PortNumber, Transport
from tests.lab.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resolver.leases.model import Lease

HERE = here({})
ELSEWHERE = "engine:X"  # nobody there could judge our PID: such a lease has an end


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setattr(keeping, "RENEW_SECONDS", 0.05)
    return Ledger(tmp_path / "leases.db", HERE)


def lease_of(ledger: Ledger, scope: str) -> Lease:
    owner = myself(HERE)
    claim = Claim(
        scope, PortNumber(8085), Transport.TCP, None, "api", "shop", owner=owner, held=True
    )
    [lease] = ledger.acquire([claim])
    return lease


def meanwhile(condition: Callable[[], object], then: Callable[[], object]) -> threading.Thread:
    def watch() -> None:
        wait_until(condition, "it is so")
        then()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_a_lease_that_has_an_end_is_renewed(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    lease = lease_of(ledger, ELSEWHERE)
    assert lease.expires_at is not None
    before = lease.expires_at

    def renewed() -> bool:
        [now] = ledger.leases()
        assert now.token == lease.token
        return now.expires_at is not None and now.expires_at > before

    thread = meanwhile(renewed, lambda: os.kill(os.getpid(), signal.SIGHUP))
    assert keeping.keep(lease, ledger, None) == 128 + signal.SIGHUP
    thread.join()
    assert ledger.leases() == ()
    assert "is no longer reserved" in capsys.readouterr().err


def test_a_lease_that_lives_with_its_owner_is_not(ledger: Ledger) -> None:
    lease = lease_of(ledger, HERE.host_scope)
    assert lease.expires_at is None
    assert keeping.keep(lease, ledger, 0.2) == 0
    assert ledger.leases() == ()


def test_a_lease_that_was_lost_ends_the_hold(ledger: Ledger) -> None:
    lease = lease_of(ledger, ELSEWHERE)
    ledger.release([lease])
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(ReservedError, match="was lost"):
        keeping.keep(lease, ledger, None)
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
