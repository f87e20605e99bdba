"""The PORT grammar: text → requests, and back.

PORT    := item ("," item)*
item    := [address ":"] port ["-" port] ["/" transport]
address := IPv4 | "[" IPv6 "]"
port    := 1 to 65535 in ASCII digits

What people paste is taken, too: a URL, `localhost:8085`, `:8085`, `*:8085`, `tcp/8085`.
"""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

from resolver.errors import UsageError
from resolver.model import PortNumber, PortRequest, Transport, unmapped

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_PORT = 65535
_NAME = r"[A-Za-z][A-Za-z0-9_-]{0,62}"
_ITEM = (
    r"(?a)(?:(?P<v4>[0-9.]+):|\[(?P<v6>[^\[\]]*)\]:)?(?P<first>[0-9]+)(?:-(?P<last>[0-9]+))?"
    r"(?:/(?P<transport>tcp|udp))?"
)


# What stands around a port in URLs, in what programs print when they listen, and in ss and lsof
_URL = r"(?ai)(?P<scheme>[a-z][a-z0-9+.-]*)://(?:[^/?#@]*@)?(?P<host>[^/?#]+)(?:[/?#].*)?"
_ANYWHERE = r"(?ai)(?:localhost|\*|::)?:(?P<rest>[0-9].*)"  # an address that says nothing
_TRANSPORT_FIRST = r"(?P<transport>tcp|udp)/(?P<rest>[^/]+)"
_DEFAULT_PORTS = {"http": 80, "https": 443}  # RFC 9110, 4.2


def parse(arguments: Iterable[str]) -> tuple[PortRequest, ...]:
    """Every requested port, in the order given, each once; ranges are expanded.

    Raises:
        UsageError: with one line that names the part that makes no sense.
    """
    requests: dict[PortRequest, None] = {}
    for argument in arguments:
        for item in items(argument):
            requests.update(dict.fromkeys(_parse_item(item, argument)))
    return tuple(requests)


def items(argument: str) -> list[str]:
    """The parts of a comma list; a URL, which may have commas of its own, is one part."""
    parts = [argument] if "://" in argument else argument.split(",")
    return [part.strip(" ") for part in parts]


def is_name(text: str) -> bool:
    """Whether it can be the name of a service; no port begins with a letter."""
    return text[:1].isalpha() and re.fullmatch(_NAME, text) is not None


def _parse_item(item: str, argument: str) -> list[PortRequest]:
    if item.isascii() and item.isdecimal():
        return [PortRequest(PortNumber(_port(item, item, argument)))]
    match = re.fullmatch(_ITEM, bare := without_trimmings(item))
    if match is None:
        raise UsageError(f"{_quote(item, argument)} is not a port: {_complaint(bare)}", _EXAMPLES)
    first = _port(match["first"], item, argument)
    last = _port(match["last"], item, argument) if match["last"] else first
    if last < first:
        raise UsageError(f"{_quote(item, argument)}: the range ends before it begins")
    address = _address(match["v4"], match["v6"], item, argument)
    transport = Transport(match["transport"] or Transport.TCP)
    return [PortRequest(PortNumber(port), transport, address) for port in range(first, last + 1)]


def without_trimmings(item: str) -> str:
    """An item without what people paste around it; the host of a URL stays, if it says one."""
    if url := re.fullmatch(_URL, item):
        scheme, host = url["scheme"].lower(), url["host"]
        if scheme in _DEFAULT_PORTS and not re.search(r":[0-9]+\Z", host):
            host = f"{host}:{_DEFAULT_PORTS[scheme]}"
        item = f"{host}/{scheme}" if scheme in list(Transport) else host
    elif first := re.fullmatch(_TRANSPORT_FIRST, item):
        item = f"{first['rest']}/{first['transport']}"
    anywhere = re.fullmatch(_ANYWHERE, item)
    return anywhere["rest"] if anywhere else item


_EXAMPLES = "a PORT is 8085, 8085/udp, 127.0.0.1:8085, [::1]:8085/tcp, 8000-8010, or a comma list"


def _port(digits: str, item: str, argument: str) -> int:
    significant = digits.lstrip("0")[:6]
    number = int(significant or "0")
    if not 1 <= number <= MAX_PORT:
        shown = digits if len(digits) <= 12 else digits[:12] + "…"  # noqa: PLR2004 - for the eye
        raise UsageError(f"{_quote(item, argument)}: {shown} is not a port from 1 to {MAX_PORT}")
    return number


def _address(v4: str | None, v6: str | None, item: str, argument: str) -> str | None:
    """The canonical text of the address; an IPv4-mapped IPv6 address is the IPv4 one."""
    if v4 is None and v6 is None:
        return None
    family = socket.AF_INET6 if v6 is not None else socket.AF_INET
    text = v6 if v6 is not None else v4 or ""
    try:
        return unmapped(socket.inet_ntop(family, socket.inet_pton(family, text)))
    except (OSError, ValueError):
        what = "IPv6" if v6 is not None else "IPv4"
        raise UsageError(
            f"{_quote(item, argument)}: {_show(text)} is not an {what} address"
        ) from None


def _complaint(item: str) -> str:
    """Why the item does not fit the grammar, for the commonest slips."""
    head, slash, transport = item.partition("/")
    if not item:
        return "it is empty"
    if slash and not item.endswith("//") and transport not in list(Transport):
        return f"{_show(transport)} is neither tcp nor udp"
    if head.count(":") > 1 and not head.startswith("["):
        return "an IPv6 address goes in brackets, as in [::1]:8085"
    host, colon, _ = head.rpartition(":")
    if colon and not host.startswith("["):
        return f"{_show(host)} is not an IP address (host names are not taken)"
    return "expected a number from 1 to 65535"


def _quote(item: str, argument: str) -> str:
    return _show(item) if item == argument else f"{_show(item)} in {_show(argument)}"


def _show(text: str) -> str:
    """The text in quotes, escaped and cut, so that it fits one line of any terminal."""
    longest = 60
    return ascii(text if len(text) <= longest else text[:longest] + "...")
