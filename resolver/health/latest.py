"""One look at a time, and no more than one a second, however many ask for it."""

from __future__ import annotations

import ctypes
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
        self._thread: threading.Thread | None = None
        self._ended = 0.0

    def ask(self) -> Future[_T]:
        """The look that is under way, or has just ended; else a new one."""
        with self._lock:
            if self._flight is None or (self._flight.done() and self._is_old()):
                self._flight = Future()
                self._flight.set_running_or_notify_cancel()  # who waits no longer does not end it
                self._thread = threading.Thread(target=self._fly, args=[self._flight], daemon=True)
                self._thread.start()
            return self._flight

    def interrupt(self, seconds: float) -> None:
        """Ends the look that is under way, as Ctrl-C would in the main thread, and waits for it.

        What it has started, such as a probe's command, it ends itself then. Where it waits for the
        kernel it goes on until that has answered (PyThreadState_SetAsyncExc of Python's C API).
        """
        with self._lock:
            thread = self._thread
        if thread is None or not thread.is_alive():
            return
        raised = ctypes.py_object(KeyboardInterrupt)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), raised)
        thread.join(seconds)

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
