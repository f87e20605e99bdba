"""A real headless Chromium, driven through a pipe by the DevTools protocol.

https://chromedevtools.github.io/devtools-protocol/; each message is JSON that ends with a NUL.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Self

from tests.lab.processes import READY_SECONDS, Lab, unavailable

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",  # root has none
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--remote-debugging-pipe",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no name leads anywhere
)
_FIRST = 10  # descriptors from here on are neither of those that the browser wants: 3 and 4
_ARRANGE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """A running browser; a context manager that ends it with everything that it started."""

    def __init__(self, home: Path) -> None:
        self._lab = Lab(home)
        self._home = home
        self._numbers = itertools.count(1)
        self._rest = b""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        program = next(filter(None, map(shutil.which, NAMES)), None)
        if program is None:
            unavailable("chromium is missing")
        (theirs_in, ours_out), (ours_in, theirs_out) = map(_beyond, (os.pipe(), os.pipe()))
        self._out, self._in = ours_out, ours_in
        with (self._home / "browser.log").open("wb") as log:
            self._popen = subprocess.Popen(
                [
                    *(sys.executable, "-S", "-c", _ARRANGE, str(theirs_in), str(theirs_out)),
                    *(program, *OPTIONS, f"--user-data-dir={self._home}/profile", "about:blank"),
                ],
                env={**os.environ, **self._lab.marked(), "HOME": str(self._home)},
                pass_fds=(theirs_in, theirs_out),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        os.close(theirs_in)
        os.close(theirs_out)
        return self

    def __exit__(self, *_: object) -> None:
        with self._popen, contextlib.suppress(OSError, AssertionError):
            self.call("Browser.close")
            self._popen.wait(READY_SECONDS)
        os.close(self._out)
        os.close(self._in)
        self._lab.reap()

    def call(self, method: str, session: str = "", **parameters: Any) -> Any:  # noqa: ANN401
        """The result of a call; what happens meanwhile is added to `events`."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + READY_SECONDS
        while True:
            told = self._message(deadline)
            if told.get("id") == number:
                assert "error" not in told, (method, told)
                return told["result"]
            self.events.append(told)

    def page(self) -> Page:
        """A page of its own, which shows nothing yet."""
        return Page(self)

    def _message(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            left = max(0.0, deadline - time.monotonic())
            readable, _, _ = select.select([self._in], [], [], left)
            more = os.read(self._in, 1 << 16) if readable else b""
            assert more, (self._home / "browser.log").read_text(encoding="utf-8", errors="replace")
            self._rest += more
        first, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        return message


class Page:
    """A page in a context of its own; a context manager that closes it."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)

    def call(self, method: str, **parameters: Any) -> Any:  # noqa: ANN401
        """As for the browser."""
        return self._browser.call(method, self._session, **parameters)

    def visit(self, url: str) -> None:
        """Begins to load a page."""
        assert "errorText" not in self.call("Page.navigate", url=url)

    def value(self, expression: str) -> Any:  # noqa: ANN401
        """What a JavaScript expression comes to, as plain values; None where it fails."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return result["result"].get("value")

    def told(self, method: str) -> list[dict[str, Any]]:
        """The events of this kind so far."""
        self.call("Runtime.evaluate", expression="1")  # reads what there is
        return [
            event["params"]
            for event in self._browser.events
            if event.get("sessionId") == self._session and event["method"] == method
        ]


def _beyond(pair: tuple[int, int]) -> tuple[int, int]:
    """The same pipe by descriptors that are in nobody's way."""
    moved = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, _FIRST) for each in pair]
    for each in pair:
        os.close(each)
    return moved[0], moved[1]
