"""One check at a time, and no more than one a second, however many ask: for `serve` and routes."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, wait
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from resolver.errors import UltraPortsError
from resolver.health import public
from resolver.health.model import HealthReport
from resolver.json_text import encode
from resolver.report.health import envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from resolver.health.checking import Run

_T = TypeVar("_T")
METHODS = ("GET", "HEAD")  # by which it is asked for
PATIENCE_SECONDS = 30.0  # for a check; probes may be slow, and an engine too
_LASTS_SECONDS = 1.0  # from the end of a check


class CheckResult(Struct, frozen=True):
    """A check, or why it could not be made; `seconds` is how long it took."""

    report: HealthReport | None
    seconds: float
    error: str = ""
    exit_status: int = 1

    @property
    def status(self) -> HTTPStatus:
        """Of the response: 200 only where everything is known to be healthy."""
        healthy = self.report is not None and self.report.healthy
        return HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE

    def body(self, *, details: bool) -> bytes:
        """The envelope of `health --json`; without `details` what everybody may see of it."""
        report = self.report or HealthReport(time.time(), (), (self.error,))
        found = envelope(report if details else public.report(report))
        if self.report is None:
            found = replace(found, healthy=False, exit_status=self.exit_status)
        return encode(found).encode() + b"\n"


LATE = CheckResult(
    None, PATIENCE_SECONDS, f"the check has not ended within {PATIENCE_SECONDS:g} seconds"
)


class SharedCheck:
    """What a check came to, for any number of threads.

    A check runs in a thread of its own, which ends with it: so nothing is left behind where a
    server forks after the first request, and a check that hangs keeps no process from ending.

    Args:
        check: makes it; it is called with what runs its probes.
    """

    def __init__(self, check: Callable[[Run], HealthReport]) -> None:
        self._check = check
        self._lock = threading.Lock()
        self._flight: Future[CheckResult] | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._interrupted = False
        self._ended = 0.0

    def ask(self) -> Future[CheckResult]:
        """The check that is under way, or has just ended; else a new one."""
        with self._lock:
            is_old = time.monotonic() - self._ended >= _LASTS_SECONDS
            if self._flight is None or (self._flight.done() and is_old):
                self._flight = Future()
                self._flight.set_running_or_notify_cancel()  # who waits no longer does not end it
                self._thread = threading.Thread(target=self._fly, args=[self._flight], daemon=True)
                self._thread.start()
            return self._flight

    def result(self, gone: Future[None] | None = None) -> CheckResult:
        """The same, once it has ended, or that it takes too long.

        Args:
            gone: is done where nobody waits for it any more.

        Raises:
            ConnectionAbortedError: `gone` is done.
        """
        flight = self.ask()
        futures: tuple[Future[Any], ...] = (flight, gone) if gone else (flight,)
        wait(futures, PATIENCE_SECONDS, FIRST_COMPLETED)
        if gone and gone.done():
            raise ConnectionAbortedError
        return flight.result() if flight.done() else LATE

    def interrupt(self, seconds: float) -> None:
        """Cancels the probes that are under way, and waits for the check's end so long.

        A probe's command is ended then. Where the check waits for the kernel or an engine it goes
        on until that has answered.
        """
        with self._lock:
            self._interrupted = True
            thread = self._thread
            if self._loop is not None:
                self._loop.call_soon_threadsafe(_cancel_all, self._loop)
        if thread is not None:
            thread.join(seconds)

    def _fly(self, flight: Future[CheckResult]) -> None:
        try:
            flight.set_result(self._result())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is for those who wait
            flight.set_exception(error)

    def _result(self) -> CheckResult:
        begun = time.monotonic()
        try:
            return CheckResult(self._check(self._run), time.monotonic() - begun)
        except UltraPortsError as error:
            return CheckResult(None, time.monotonic() - begun, str(error), int(error.status))
        finally:
            self._ended = time.monotonic()

    def _run(self, probes: Coroutine[Any, Any, _T]) -> _T:
        with asyncio.Runner() as runner:
            with self._lock:
                self._loop = runner.get_loop()
                if self._interrupted:
                    self._loop.call_soon(_cancel_all, self._loop)
            try:
                return runner.run(probes)
            except asyncio.CancelledError as error:
                raise InterruptedError from error
            finally:
                with self._lock:
                    self._loop = None


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()
