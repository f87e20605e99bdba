"""A small ASGI application for uvicorn: `/health` answers 200, anything else 404.

`HEALTH` in its environment is another status for `/health`. `/pid` says who answers.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

HEALTH = int(os.environ.get("HEALTH", "200"))


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """ASGI 3: one answer to each request, and a life that begins and ends without further ado."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    answers = {"/health": (HEALTH, b"well\n"), "/pid": (200, b"%d\n" % os.getpid())}
    status, body = answers.get(scope["path"], (404, b"no such page\n"))
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})
