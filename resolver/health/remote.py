"""Ports of other machines, for those who wait: whether they accept a connection, and no more.

Who holds such a port, and whether it is free, cannot be told from here.
"""

from __future__ import annotations

import re
import socket
import threading
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import UsageError
from resolver.health.signatures import is_address, is_local
from resolver.health.wait import Condition, Unmet
from resolver.portspec import MAX_PORT, items, without_trimmings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ITEM = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<v4>[0-9.]+)|(?P<name>[0-9A-Za-z_](?:[0-9A-Za-z_.-]*)))"
    r":(?P<port>[0-9]{1,6})(?:/tcp)?",
    re.ASCII,
)
_TRY_SECONDS = 3.0
_AGAIN_SECONDS, _STILL_SECONDS = 0.25, 1.0  # after a failure, and after a success


class Remote(Struct, frozen=True):
    """A TCP port of another machine, or of a name that has to be looked up."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}/tcp"


def split(arguments: Iterable[str]) -> tuple[list[str], list[Remote]]:
    """The arguments that are about this machine, and those that are about others.

    Raises:
        UsageError: a port that there is not.
    """
    here: list[str] = []
    away: list[Remote] = []
    for argument in arguments:
        for item in items(argument):
            found = _remote(without_trimmings(item))
            if found is None:
                here.append(item)
            else:
                away.append(found)
    return here, list(dict.fromkeys(away))


def _remote(item: str) -> Remote | None:
    match = _ITEM.fullmatch(item)
    if match is None:
        return None
    literal = match["v6"] or match["v4"]
    if literal and (not is_address(literal) or is_local(literal)):
        return None  # this machine's, or no address at all: the PORT grammar has the word
    port = int(match["port"])
    if not 1 <= port <= MAX_PORT:
        raise UsageError(f"{item!a}: {port} is not a port from 1 to {MAX_PORT}")
    return Remote(literal or match["name"], port)


class Accepting(Condition):
    """Remote ports that shall accept; each is tried in a thread, which ends with the process."""

    def __init__(self, remotes: Sequence[Remote]) -> None:
        self._remotes = remotes
        self._over = threading.Event()
        self._tried = {each: threading.Event() for each in remotes}
        self._why: dict[Remote, str] = dict.fromkeys(remotes, "was not reached as yet")
        for each in remotes:
            threading.Thread(target=self._try, args=(each,), daemon=True).start()

    def unmet(self, seconds_left: float) -> tuple[Unmet, ...]:
        """See `Condition`; without time left, each is still waited for until it was tried once."""
        if seconds_left <= 0:
            for tried in self._tried.values():
                tried.wait(_TRY_SECONDS)
        return self.explain()

    def explain(self) -> tuple[Unmet, ...]:
        """See `Condition`."""
        return tuple(Unmet(str(each), self._why[each]) for each in self._remotes if self._why[each])

    def close(self) -> None:
        """See `Condition`."""
        self._over.set()

    def _try(self, remote: Remote) -> None:
        while not self._over.is_set():
            try:
                with socket.create_connection((remote.host, remote.port), _TRY_SECONDS):
                    self._why[remote] = ""
            except (OSError, UnicodeError) as error:  # the latter: a name that DNS cannot have
                reason = getattr(error, "strerror", None) or error
                self._why[remote] = f"does not accept: {reason}"
            self._tried[remote].set()
            self._over.wait(_AGAIN_SECONDS if self._why[remote] else _STILL_SECONDS)
