"""One look at a time, and no more than one a second, however many ask for it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")
LASTS_SECONDS = 1.0


class Latest(Generic[_T]):
    """What a look came to, for any number of threads.

    A look runs in a thread of its own, which ends with it: so nothing is left behind where a server
    forks after the first request, and a look that hangs keeps no process from ending.

    Args:
        look: looks; what it raises is what everybody gets who waits for it.
        lasts_seconds: how long the outcome is passed on, counted from the end of the look.
    """

    def __init__(self, look: Callable[[], _T], lasts_seconds: float = LASTS_SECONDS) -> None:
        self._look = look
        self._lasts = lasts_seconds
        self._lock = threading.Lock()
        self._flight: Future[_T] | None = None
        self._ended = 0.0

    def ask(self) -> Future[_T]:
        """The look that is under way, or has just ended; else a new one."""
        with self._lock:
            if self._flight is None or (self._flight.done() and self._is_old()):
                self._flight = Future()
                self._flight.set_running_or_notify_cancel()  # who waits no longer does not end it
                threading.Thread(target=self._fly, args=[self._flight], daemon=True).start()
            return self._flight

    def wait(self, seconds: float) -> None:
        """Waits for the look that is under way, if any."""
        with self._lock:
            flight = self._flight
        if flight is not None and not flight.done():
            from concurrent.futures import wait  # noqa: PLC0415 - seldom

            wait([flight], seconds)

    def _is_old(self) -> bool:
        return time.monotonic() - self._ended >= self._lasts

    def _fly(self, flight: Future[_T]) -> None:
        try:
            found = self._look()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is for those who wait
            self._ended = time.monotonic()
            flight.set_exception(error)
        else:
            self._ended = time.monotonic()
            flight.set_result(found)
