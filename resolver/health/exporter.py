"""What `serve` answers to each path. Nothing here acts, and nothing here knows of sockets."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING

from resolver.errors import UltraPortsError
from resolver.health import metrics
from resolver.health.checked import asked, body, checked, status
from resolver.health.latest import Latest
from resolver.health.page import page
from resolver.health.watch import INTERVAL_SECONDS, Watch
from resolver.leases import outcomes
from resolver.values import value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from resolver.health.model import HealthReport
    from resolver.health.targets import Targets
    from resolver.leases.model import Lease
    from resolver.model import PortRequest

_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
_HTML = "text/html; charset=utf-8"
NO_CONTENT = "default-src 'none'; frame-ancestors 'none'"
_OK, _NOT_FOUND = 200, 404


@value
class Reply:
    """A response without what every one has; `policy` is its Content-Security-Policy."""

    status: int
    kind: str
    body: bytes
    policy: str = NO_CONTENT


class Exporter:
    """Answers paths.

    Args:
        check: makes a check, and may take its time.
        background: what is watched all the while; None where nothing is.
    """

    def __init__(
        self, check: Callable[[], HealthReport], background: Background | None = None
    ) -> None:
        self.latest = Latest(lambda: checked(check))
        self._background = background
        self._page = page()
        self._answers = {"/": self._document, "/healthz": self._healthz, "/metrics": self._metrics}

    async def answer(self, path: str) -> Reply:
        """The response for a path."""
        if path not in self._answers:
            known = ", ".join(self._answers)
            return Reply(_NOT_FOUND, _TEXT, f"there is {known}\n".encode())
        return await self._answers[path]()

    async def _document(self) -> Reply:
        return Reply(_OK, _HTML, self._page.body, self._page.policy)

    async def _healthz(self) -> Reply:
        found = await asked(self.latest)
        return Reply(status(found), _JSON, body(found))

    async def _metrics(self) -> Reply:
        found = await asked(self.latest)
        behind = self._background
        seen = metrics.Seen(
            found.report,
            found.seconds,
            behind.looks if behind else None,
            behind.respawns if behind else None,
            behind.leases if behind else None,
            await asyncio.to_thread(outcomes.read, os.environ),
        )
        return Reply(_OK, metrics.CONTENT_TYPE, metrics.exposition(seen).encode())


class Background:
    """Counts respawns and leases in a thread of its own, from one look to the next.

    Raises:
        UsageError: an address is not one of this machine's, or a setting makes no sense.
    """

    def __init__(self, asked: Targets, environ: Mapping[str, str], *, use_docker: bool) -> None:
        self.looks = 0
        self.respawns: Mapping[PortRequest, int] = {}
        self.leases: tuple[Lease, ...] | None = None
        self._watch = Watch(
            list(dict.fromkeys(each.request for each in asked.wanted)),
            use_docker=use_docker,
            environ=environ,
        )
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def end(self, seconds: float) -> None:
        """Ends, within that time where it can."""
        self._ended.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._watch.look()
            except (UltraPortsError, OSError):  # it is seen in the check, and may pass
                self.leases = None
            else:
                self.respawns = {each.request: each.respawns for each in self._watch.stories}
                self.leases = self._watch.leases
                self.looks = self._watch.looks
            self._ended.wait(INTERVAL_SECONDS)
        self._watch.close()
