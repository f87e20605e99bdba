"""PURE: the head of an HTTP request (RFC 9112) → what is asked for, or why it is refused.

Whoever may connect here may be a page of another site, by way of its visitor's browser: it can
point a name of its own at this machine (DNS rebinding), and then the name is what gives it away.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

LOCALHOST = "localhost"
METHODS = ("GET", "HEAD")
_LINE = re.compile(rb"([!-~]{1,32}) ([!-~]+) HTTP/1\.([01])")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.DOTALL)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::[0-9]{0,5})?", re.ASCII)


class Request(Struct, frozen=True):
    """A request that may be answered; `path` is as it was sent, without the query.

    `token` is what came as `Authorization: Bearer TOKEN` (RFC 6750), empty without.
    """

    path: str
    bodiless: bool = False  # HEAD
    token: bytes = b""


class RefusedError(Exception):
    """A request that is answered with this HTTP status and one line of text."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def parse(head: bytes, names: Collection[str] = ()) -> Request:
    """Reads a request's head.

    Args:
        head: up to and without the empty line.
        names: by which this server may be called, beside `localhost` and IP addresses; lower case.

    Raises:
        RefusedError: it makes no sense, would change something, or is meant for another host.
    """
    first, *rest = head.split(b"\r\n")
    line = _LINE.fullmatch(first)
    if line is None:
        raise RefusedError(400, "this is no HTTP/1.1 request")
    method, target = line[1].decode(), line[2].decode()
    fields = list(_fields(rest))
    hosts = [text.decode("latin-1") for name, text in fields if name == b"host"]
    if len(hosts) != 1:  # in HTTP/1.0 too: a page's request by another name is told by it alone
        raise RefusedError(400, "a request names one host")
    if not is_ours(hosts[0], names):
        raise RefusedError(403, "this is not the name of this server: see serve --host-name")
    if method not in METHODS:
        raise RefusedError(405, "nothing can be changed here: GET and HEAD are all there is")
    if not target.startswith("/"):
        raise RefusedError(400, "a request names a path")
    return Request(target.partition("?")[0], bodiless=method == "HEAD", token=_token(fields))


def is_ours(host: str, names: Collection[str] = ()) -> bool:
    """Whether a Host field can be meant for us: no name but our own, and any address."""
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = match[1].lower()
    return name in {LOCALHOST, *names} or is_address(name.strip("[]"))


def is_address(text: str) -> bool:
    """Whether this is an IP address, in its usual spelling."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text  # a zone, which means something on one machine only


def _fields(lines: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """The name of each header field, in lower case, and what it says."""
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise RefusedError(400, "a header field makes no sense")
        yield field[1].lower(), field[2]


def _token(fields: list[tuple[bytes, bytes]]) -> bytes:
    """The one bearer token; other ways of authorization are for whoever stands in between."""
    given = [text for name, text in fields if name == b"authorization"]
    scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
    return token.strip(b" ") if scheme.lower() == b"bearer" else b""
