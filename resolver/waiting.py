"""A service that is started again and again: for which port, and how sure that is. Pure.

What a server prints when it cannot start says most. A command line that names the port may be that
of a client, or mean something else by the number: it counts where nothing was printed, and only
where it is a server's way of saying where to listen.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.managed import ManagedService

# How programs say that a port is taken: strerror(3), node, Java, Rust, Docker
_TAKEN = (
    r"(?i)in use|addr_?in_?use|already (?:allocated|bound|being used|taken)"
    r"|is (?:taken|occupied)|err(?:no|or) 98\b"
)
_SOME_PORT = r"(?i)\bport\W{0,3}\d|[:\]]\d{3,5}\b|, \d{2,5}\)"
_NAMING = r"(?i)port|listen|bind|addr|host|url|http|^-[a-z]$"
# The words of options and variables by which a server is told where to listen, and no client
_SERVING = frozenset(
    {"port", "ports", "listen", "listener", "bind", "addr", "address", "host", "p", "b", "l"}
    | {"http", "https", "web", "server", "api", "app", "grpc", "metrics", "admin", "service"}
)
_EVERY_ADDRESS = r"\*|0\.0\.0\.0|\[?::\]?"
_OWN_ADDRESS = rf"{_EVERY_ADDRESS}|localhost|127(?:\.\d+){{3}}|\[::1\]"


class PortClaim(Struct, frozen=True):
    """That a service is for a port: how that is known, and whether beyond doubt."""

    why: str
    certain: bool


class Waiting(Struct, frozen=True):
    """A service that its manager starts again and again: `state` is the manager's word for that.

    `command` is what is started, `settings` what it is told in its environment; `log` asks what it
    printed. `tested` are the ports on which its manager tests it.
    """

    service: ManagedService
    state: str
    command: str = ""
    settings: tuple[str, ...] = ()
    log: Callable[[], str] = str
    tested: frozenset[int] = frozenset()

    def claim(self, port: int) -> PortClaim | None:
        """Why it would take this port; None where nothing says that it is for it."""
        if port in self.tested:
            return PortClaim(f"{self.service.kind} tests it on {port}", certain=True)
        lines = [line.strip() for line in reversed(self.log().splitlines()) if line.strip()]
        failures = [line for line in lines if re.search(_TAKEN, line)]
        for line in failures:
            if re.search(_number(port), line):
                return PortClaim(f"it says: {line}", certain=True)
        naming = max(self._naming(port), key=lambda each: each.certain, default=None)
        if naming is None:
            return None
        if failures and not re.search(_SOME_PORT, failures[0]):
            return PortClaim(f"{naming.why}, and says: {failures[0]}", certain=True)
        return PortClaim(naming.why, certain=naming.certain and not lines)

    def _naming(self, port: int) -> Iterator[PortClaim]:
        """What it is told that names the port; certain where that is a server's way."""
        words = re.split(r"[\s'\";&|()]+", self.command)
        named = [naming for pair in pairwise(("", *words)) if (naming := _names(*pair, port))]
        if named:
            yield PortClaim(f"it is started as: {self.command}", certain="serves" in named)
        for each in map(str.strip, self.settings):
            name, _, value = each.partition("=")
            is_told = re.fullmatch(r"\w+", name) and re.search(_NAMING, name)
            if is_told and re.search(_number(port), value):
                yield PortClaim(f"it is started with {each}", certain=_is_serving(name))


def _number(port: int) -> str:
    return rf"(?<![\w.]){port}(?![\w.]\d|\w)"


def _names(before: str, word: str, port: int) -> str:
    """How a word names a port: `serves`, `mentions`, or not at all.

    The value of an option that is for something else, such as `--timeout 3000`, does not.
    """
    if word == f"-p{port}":
        return "serves"
    option, _, value = word.rpartition("=")
    option = option or (before if before.startswith("-") else "")
    match = re.fullmatch(rf"(?:(\S*)[:/@])?{port}(?:/\S*)?", value)
    if match is None or (option and not re.search(_NAMING, option)):
        return ""
    own = _OWN_ADDRESS if option else _EVERY_ADDRESS
    here = not match[1] or re.fullmatch(own, match[1].rpartition("/")[2]) is not None
    return "serves" if here and (not option or _is_serving(option)) else "mentions"


def _is_serving(name: str) -> bool:
    """Whether an option or a variable says where to listen, as a whole: `--http.port`, `PORT`."""
    return _SERVING.issuperset(re.split(r"[-_.]+", name.lower().lstrip("-")))
