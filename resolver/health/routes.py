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

from resolver.health.checked import PATIENCE_SECONDS, body, checked, late, status
from resolver.health.checking import check
from resolver.health.exporter import METHODS
from resolver.health.latest import Latest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from resolver.health.checked import Checked

    Message = dict[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

_FIELDS = {"Content-Type": "application/json", "Cache-Control": "no-store"}
_REFUSAL = b"GET and HEAD are all there is\n"
_REFUSED = {
    "Content-Type": "text/plain",
    "Allow": ", ".join(METHODS),
    "Content-Length": str(len(_REFUSAL)),
}


def _latest(wanted: tuple[str | int, ...], options: dict[str, Any]) -> Latest[Checked]:
    return Latest(lambda _: checked(lambda: check(*wanted, **options)))


class Asgi:
    """An ASGI 3 app for asyncio servers such as uvicorn.

    Args:
        wanted: names of services, or ports, as for `resolver.health.check`; none asks for every
            service of the project file.
        details: whether everything is shown, as by `health --json`.
        options: as for `resolver.health.check`.
    """

    def __init__(self, *wanted: str | int, details: bool = False, **options: Any) -> None:  # noqa: ANN401
        self._latest = _latest(wanted, options)
        self._details = details

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one request; the lifespan is agreed to, a websocket is refused."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        elif scope["method"] not in METHODS:
            await _send(send, HTTPStatus.METHOD_NOT_ALLOWED, _REFUSED, _REFUSAL)
        else:
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    found = await asyncio.wrap_future(self._latest.ask())
            except TimeoutError:
                found = late(PATIENCE_SECONDS)
            text = body(found, details=self._details)
            fields = {**_FIELDS, "Content-Length": str(len(text))}
            await _send(send, status(found), fields, b"" if scope["method"] == "HEAD" else text)


async def _lifespan(receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def _send(send: Send, number: int, fields: dict[str, str], text: bytes) -> None:
    headers = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": int(number), "headers": headers})
    await send({"type": "http.response.body", "body": text})


class Wsgi:
    """A WSGI app (PEP 3333); arguments as for `Asgi`."""

    def __init__(self, *wanted: str | int, details: bool = False, **options: Any) -> None:  # noqa: ANN401
        self._latest = _latest(wanted, options)
        self._details = details

    def __call__(self, environ: Message, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answers one request."""
        if environ["REQUEST_METHOD"] not in METHODS:
            start_response("405 Method Not Allowed", [*_REFUSED.items()])
            return [_REFUSAL]
        try:
            found = self._latest.ask().result(PATIENCE_SECONDS)
        except TimeoutError:
            found = late(PATIENCE_SECONDS)
        number, text = HTTPStatus(status(found)), body(found, details=self._details)
        fields = {**_FIELDS, "Content-Length": str(len(text))}
        start_response(f"{number.value} {number.phrase}", [*fields.items()])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [text]


asgi = Asgi()
"""For every service of the project file: `uvicorn resolver.health.routes:asgi`."""
wsgi = Wsgi()
"""For every service of the project file: `gunicorn resolver.health.routes:wsgi`."""
