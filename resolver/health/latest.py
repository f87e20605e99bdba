"""One look at a time, and no more than one a second, however many ask for it."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_T = TypeVar("_T")
_S = TypeVar("_S")
LASTS_SECONDS = 1.0


class Latest(Generic[_T]):
    """What a look came to, for any number of threads.

    A look runs in a thread of its own, which ends with it: so nothing is left behind where a server
    forks after the first request, and a look that hangs keeps no process from ending.

    Args:
        look: looks; what it raises is what everybody gets who waits for it. It is called with this
            object's `run`.
        lasts_seconds: how long the outcome is passed on, counted from the end of the look.
    """

    def __init__(
        self, look: Callable[[Latest[_T]], _T], lasts_seconds: float = LASTS_SECONDS
    ) -> None:
        self._look = look
        self._lasts = lasts_seconds
        self._lock = threading.Lock()
        self._flight: Future[_T] | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._interrupted = False
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

    def run(self, asking: Coroutine[Any, Any, _S]) -> _S:
        """Runs the part of a look that may wait for long, so that it can be interrupted.

        Raises:
            InterruptedError: it was.
        """
        with asyncio.Runner() as runner:
            with self._lock:
                self._loop = runner.get_loop()
            try:
                return runner.run(self._unless_interrupted(asking))
            except asyncio.CancelledError as error:
                raise InterruptedError from error
            finally:
                with self._lock:
                    self._loop = None

    async def _unless_interrupted(self, asking: Coroutine[Any, Any, _S]) -> _S:
        task = asyncio.ensure_future(asking)
        if self._interrupted:
            task.cancel()
        return await task

    def interrupt(self, seconds: float) -> None:
        """Cancels the look that is under way, and waits for it so long.

        What it has started, such as a probe's command, it ends itself then. Where it waits for the
        kernel or an engine it goes on until that has answered.
        """
        self._interrupted = True
        with self._lock:
            thread = self._thread
            if self._loop is not None:
                self._loop.call_soon_threadsafe(_cancel_all, self._loop)
        if thread is not None:
            thread.join(seconds)

    def _is_old(self) -> bool:
        return time.monotonic() - self._ended >= self._lasts

    def _fly(self, flight: Future[_T]) -> None:
        try:
            found = self._look(self)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is for those who wait
            self._ended = time.monotonic()
            flight.set_exception(error)
        else:
            self._ended = time.monotonic()
            flight.set_result(found)


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()
