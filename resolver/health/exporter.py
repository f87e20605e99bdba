"""What `serve` answers to each path. Nothing here acts, and nothing here knows of sockets."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import UltraPortsError
from resolver.health import metrics, public, tokens
from resolver.health.checked import asked, body, checked, status
from resolver.health.latest import Latest
from resolver.health.page import page
from resolver.health.watch import INTERVAL_SECONDS, Watch
from resolver.leases import outcomes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from resolver.health.checking import Run
    from resolver.health.heads import Request
    from resolver.health.model import HealthReport
    from resolver.health.targets import Targets
    from resolver.leases.model import Lease
    from resolver.model import PortRequest

_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
_HTML = "text/html; charset=utf-8"
NO_CONTENT = "default-src 'none'; frame-ancestors 'none'"
_OK, _NOT_FOUND = 200, 404


class Reply(Struct, frozen=True):
    """A response without what every one has; `policy` is its Content-Security-Policy."""

    status: int
    kind: str
    body: bytes
    policy: str = NO_CONTENT


class Exporter:
    """Answers paths.

    Args:
        check: makes a check, and may take its time; it is given what runs its probes.
        background: what is watched all the while; None where nothing is.
        token: by which whoever sends it sees the whole report; empty where nobody shall.
    """

    def __init__(
        self,
        check: Callable[[Run], HealthReport],
        background: Background | None = None,
        token: bytes = b"",
    ) -> None:
        self.latest = Latest(lambda latest: checked(lambda: check(latest.run)))
        self._background = background
        self._token = token
        self._page = page()
        self._answers = {"/": self._document, "/healthz": self._healthz, "/metrics": self._metrics}

    async def answer(self, request: Request) -> Reply:
        """The response for a request."""
        if request.path not in self._answers:
            known = ", ".join(self._answers)
            return Reply(_NOT_FOUND, _TEXT, f"there is {known}\n".encode())
        return await self._answers[request.path](request)

    async def _document(self, _: Request) -> Reply:
        """The page, which has nothing in it: what it shows it asks /healthz for."""
        return Reply(_OK, _HTML, self._page.body, self._page.policy)

    async def _healthz(self, request: Request) -> Reply:
        found = await asked(self.latest)
        details = tokens.is_right(self._token, request.token)
        return Reply(status(found), _JSON, body(found, details=details))

    async def _metrics(self, _: Request) -> Reply:
        """Labels are for everybody, whoever asks: a series is not to change its name."""
        found = await asked(self.latest)
        behind = self._background
        leases = behind.leases if behind else None
        seen = metrics.Seen(
            found.report and public.report(found.report),
            found.seconds,
            behind.looks if behind else None,
            behind.respawns if behind else None,
            None if leases is None else tuple(map(public.lease, leases)),
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
