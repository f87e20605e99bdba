"""/healthz for applications: the JSON of `ultra-ports serve`, as an ASGI app and as a WSGI app.

    from fastapi import FastAPI
    from resolver.health.routes import Asgi

    app = FastAPI()
    app.mount("/healthz", Asgi("api", "redis"))

`asgi` and `wsgi` are ready-made for every service of the project file. Each answers whatever path
it is mounted at, checks at most once a second however many ask, and keeps no request of the
application waiting: a check has a thread of its own. Who may ask is the application's business:
only with `details=True` does it show command lines, directories, reasons and advice.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from resolver.health.checking import check
from resolver.health.shared_check import LATE, METHODS, PATIENCE_SECONDS, CheckResult, SharedCheck

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    Message = dict[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

Response = tuple[HTTPStatus, dict[str, str], bytes]
_REFUSAL = f"{' and '.join(METHODS)} are all there is\n".encode()


class _Route:
    """What both kinds of app answer.

    Args:
        wanted: names of services, or ports, as for `resolver.health.check`; none asks for every
            service of the project file.
        details: whether everything is shown, as by `health --json`.
        options: as for `resolver.health.check`.
    """

    def __init__(self, *wanted: str | int, details: bool = False, **options: Any) -> None:  # noqa: ANN401
        self._check = SharedCheck(lambda _: check(*wanted, **options))
        self._details = details

    def _response(self, found: CheckResult | None, method: str) -> Response:
        """`found` is None for a method by which no check is made."""
        if found is None:
            status, text = HTTPStatus.METHOD_NOT_ALLOWED, _REFUSAL
            fields = {"Content-Type": "text/plain", "Allow": ", ".join(METHODS)}
        else:
            status, text = found.status, found.body(details=self._details)
            fields = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        fields["Content-Length"] = str(len(text))
        return status, fields, b"" if method == "HEAD" else text


class Asgi(_Route):
    """An ASGI 3 app for asyncio servers such as uvicorn."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one request; the lifespan is agreed to, a websocket is refused."""
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            found = await self._checked() if scope["method"] in METHODS else None
            status, fields, text = self._response(found, scope["method"])
            headers = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
            await send({"type": "http.response.start", "status": int(status), "headers": headers})
            await send({"type": "http.response.body", "body": text})

    async def _checked(self) -> CheckResult:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await asyncio.wrap_future(self._check.ask())
        except TimeoutError:
            return LATE


class Wsgi(_Route):
    """A WSGI app (PEP 3333)."""

    def __call__(self, environ: Message, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answers one request."""
        method = environ["REQUEST_METHOD"]
        found = self._check.result() if method in METHODS else None
        status, fields, text = self._response(found, method)
        start_response(f"{status.value} {status.phrase}", [*fields.items()])
        return [text]


asgi = Asgi()
"""For every service of the project file: `uvicorn resolver.health.routes:asgi`."""
wsgi = Wsgi()
"""For every service of the project file: `gunicorn resolver.health.routes:wsgi`."""
