"""What `serve` answers to each path. Nothing here acts, and nothing here knows of sockets."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import threading
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import UltraPortsError
from resolver.health import metrics, public, tokens
from resolver.health.shared_check import METHODS, CheckResult, SharedCheck
from resolver.health.watch import INTERVAL_SECONDS, Watch
from resolver.leases import outcomes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Future

    from resolver.health.targets import Targets
    from resolver.leases.model import Lease
    from resolver.model import PortRequest

_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_NO_CONTENT = "default-src 'none'; frame-ancestors 'none'"


class Reply(Struct, frozen=True):
    """A response; `policy` is its Content-Security-Policy."""

    status: int
    kind: str
    body: bytes
    policy: str = _NO_CONTENT

    @property
    def fields(self) -> dict[str, str]:
        """The header fields."""
        refused = self.status == HTTPStatus.METHOD_NOT_ALLOWED
        return {
            "Content-Type": self.kind,
            "Content-Length": str(len(self.body)),
            "Connection": "close",
            "Cache-Control": "no-store",
            "Content-Security-Policy": self.policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            **({"Allow": ", ".join(METHODS)} if refused else {}),
        }


def _page() -> Reply:
    """The page; only its own script and style run, and only this server can be asked."""
    text = files("resolver.health").joinpath("page.html").read_text(encoding="utf-8")
    policy = (  # CSP level 3
        f"default-src 'none'; script-src {_source(text, 'script')}; "
        f"style-src {_source(text, 'style')}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    )
    return Reply(HTTPStatus.OK, _HTML, text.encode(), policy)


def _source(text: str, element: str) -> str:
    """The hash of the one element of this kind, by which the policy lets it through."""
    (inline,) = re.findall(f"<{element}>(.*?)</{element}>", text, re.DOTALL)
    digest = hashlib.sha256(inline.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def plain(status: int, text: str) -> Reply:
    """One line of text."""
    return Reply(status, _TEXT, f"{text}\n".encode())


class Exporter:
    """Answers paths.

    Args:
        check: is made for every request but for the page.
        background: what is watched all the while.
        token: by which whoever sends it sees the whole report; empty where nobody shall.
    """

    def __init__(self, check: SharedCheck, background: Background, token: bytes) -> None:
        self.check = check
        self._background = background
        self._token = token
        self._page = _page()

    def answer(self, path: str, token: bytes, gone: Future[None]) -> Reply:
        """The response for a request.

        Args:
            path: as it was sent, without the query.
            token: as it was sent.
            gone: is done where nobody waits for the answer any more.

        Raises:
            ConnectionAbortedError: `gone` is done.
        """
        match path:
            case "/":  # the page has nothing in it: what it shows it asks /healthz for
                return self._page
            case "/healthz":
                found = self.check.result(gone)
                details = tokens.is_right(self._token, token)
                return Reply(found.status, _JSON, found.body(details=details))
            case "/metrics":
                return self._metrics(self.check.result(gone))
            case _:
                return plain(HTTPStatus.NOT_FOUND, "there is /, /healthz, /metrics")

    def _metrics(self, found: CheckResult) -> Reply:
        """Labels are for everybody, whoever asks: a series is not to change its name."""
        behind, leases = self._background, self._background.leases
        seen = metrics.Readings(
            found.report and public.report(found.report),
            found.seconds,
            behind.looks,
            behind.respawns,
            None if leases is None else public.lease_counts(leases),
            outcomes.read(os.environ),
        )
        return Reply(HTTPStatus.OK, metrics.CONTENT_TYPE, metrics.exposition(seen).encode())


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
                self.respawns = {each.request: each.respawns for each in self._watch.histories}
                self.leases = self._watch.leases
                self.looks = self._watch.looks
            self._ended.wait(INTERVAL_SECONDS)
        self._watch.close()
