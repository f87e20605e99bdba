"""Stays in the foreground while a port is kept, renews its lease, and lets go when told to."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING

from resolver.cli import say
from resolver.errors import StoreError
from resolver.settings import RENEW_SECONDS

if TYPE_CHECKING:
    from resolver.leases.model import Lease
    from resolver.protocols import LeaseStore

_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def keep(lease: Lease, store: LeaseStore, ttl_seconds: float | None) -> int:
    """Waits for a signal, or for the end of `ttl_seconds`; then the lease ends.

    What our caller made us ignore, as nohup(1) does, stays ignored.

    Returns:
        0 where its time was up, else 128 and the number of the signal, as a shell would say.

    Raises:
        ReservedError: the lease was lost meanwhile.
    """
    told = threading.Event()
    got: list[int] = []

    def end(number: int, _: object) -> None:
        got.append(number)
        told.set()

    ours = [each for each in _ENDINGS if signal.getsignal(each) is not signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in ours}
    try:
        _wait(lease, store, ttl_seconds, told)
    finally:
        store.release([lease])
        for number, handler in before.items():
            signal.signal(number, handler)
    say([f"{lease.request} is no longer reserved"])
    return 128 + got[0] if got else 0


def _wait(
    lease: Lease, store: LeaseStore, ttl_seconds: float | None, told: threading.Event
) -> None:
    deadline = None if ttl_seconds is None else time.monotonic() + ttl_seconds
    renews = deadline is None and lease.expires_at is not None
    while True:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return
        if told.wait(RENEW_SECONDS if renews else left):
            return
        if renews:
            _renew(lease, store)


def _renew(lease: Lease, store: LeaseStore) -> None:
    """A store that is away for a while is no reason to let the port go: the kernel keeps it."""
    try:
        store.renew(lease, None)
    except StoreError as error:
        say([f"the reservation could not be renewed: {error}"])
