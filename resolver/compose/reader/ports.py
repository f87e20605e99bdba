"""The entries of `ports:` → their long form, each with its place; and without the doubles."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from resolver.compose.reader.published import TRANSPORTS, canonical, publish
from resolver.compose.reader.tree import Budget, Items, Number, Place, Table, Text, place_of
from resolver.errors import UsageError
from resolver.interpolation import shown
from resolver.portspec import MAX_PORT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from resolver.compose.model import Published

_KEYS = frozenset({"target", "published", "host_ip", "protocol", "mode", "name", "app_protocol"})
_TEXTS = ("host_ip", "protocol", "mode", "name", "app_protocol")
_WHOLE = re.compile(r"[-+]?[0-9]{1,18}", re.ASCII)
_PORT = re.compile(r"0*([0-9]{1,5})", re.ASCII)
_FIRST = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)", re.ASCII)
_MAPPED, _ADDRESSED = 2, 3  # parts between the colons


class Entry(Table):
    """One entry in the long form.

    `text` is how it was written. `unset` are variables that left nothing where its host port might
    stand, and `lost` where its address might.
    """

    text: str = ""
    unset: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def entries(ports: Items, where: str, budget: Budget) -> Items:
    """Every entry in the long form; one with a range in it becomes several.

    Raises:
        UsageError: an entry makes no sense to compose.
    """
    made = Items(entry for each in ports for entry in _entries(each, ports.place, where, budget))
    made.place = ports.place
    return made


def unique(found: Items) -> Items:
    """The entries without those that a later one repeats, which takes the earlier one's place."""
    kept: dict[object, Entry] = {}
    for each in found:
        published = each.get("published", "")
        kind = Number if isinstance(published, int) else Text  # as compose: 80 is not "80" here
        host, protocol = each.get("host_ip", "0.0.0.0"), each.get("protocol", "tcp")  # noqa: S104
        kept[host, kind, published, each["target"], protocol] = each
    made = Items(kept.values())
    made.place = found.place
    return made


def published(service: str, found: Iterable[Entry], folder: Path) -> Iterator[Published]:
    """What the entries of one service would publish; places are told from the folder's view."""
    for each in found:
        made = publish(
            service,
            each["target"],
            str(each.get("published", "")),
            each.get("host_ip", ""),
            each.get("protocol", ""),
            each.text,
        )
        automatic = made.first is None and not made.trouble
        yield replace(
            made,
            unset=each.unset if automatic else (),
            exposed_by=() if automatic else each.lost,
            where=each.place.seen_from(folder) if each.place else "",
        )


def _entries(
    value: Any,  # noqa: ANN401 - whatever YAML says
    place: Place | None,
    where: str,
    budget: Budget,
) -> Iterator[Entry]:
    place = place_of(value) or place
    try:
        if isinstance(value, Entry):
            yield value  # from a file before
        elif isinstance(value, Table):
            yield _long(value)
        elif isinstance(value, str | int) and not isinstance(value, bool):
            for entry in _short(str(value), budget):
                entry.place = place
                entry.text = _written(value)
                entry.unset = getattr(value, "unset", ())
                entry.lost = entry.unset if _widened(str(value), entry) else ()
                yield entry
        else:
            raise UsageError("an entry is a port, a text or a mapping")  # noqa: TRY301 - the place
    except UsageError as error:
        raise UsageError(f"{place}: {where}: {error}") from error


def _widened(text: str, entry: Entry) -> bool:
    """Whether what is unset was meant to be an address: `${ADDRESS}:80:80`, `${ADDRESS}80:80`."""
    first = _FIRST.match(entry.text)
    prefix = first is not None and first[1] in entry.unset
    return prefix or (text.startswith(":") and text.count(":") == _ADDRESSED - 1)


# --- the short form -------------------------------------------------------------------------------


def _short(text: str, budget: Budget) -> Iterator[Entry]:
    """`[[address:][host port]:]port[/transport]`, each port also a range; as Docker's nat.go."""
    parts = text.rsplit(":", 2)
    container, _, rest = parts[-1].partition("/")
    transport = rest.partition("/")[0].lower() or "tcp"
    if transport not in TRANSPORTS:
        raise UsageError(f"{shown(text)}: {shown(transport)} is neither tcp, udp nor sctp")
    first, last = _range(container, text, "port of the container")
    host = parts[-2] if len(parts) >= _MAPPED else ""
    low, high = _range(host, text, "host port") if host else (0, 0)
    address = _bracketed(parts[0], text) if len(parts) == _ADDRESSED else ""
    if host and high - low != last - first and last > first:
        raise UsageError(f"{shown(text)}: the two ranges are not of one length")
    for offset in range(last - first + 1):
        budget.spend(None)
        entry = Entry(target=Number(first + offset), protocol=Text(transport))
        if host and first == last and low != high:
            entry["published"] = Text(f"{low}-{high}")
        elif host:
            entry["published"] = Text(str(low + offset))
        if address:
            entry["host_ip"] = Text(address)
        if not first + offset:
            raise UsageError(f"{shown(text)}: 0 is no port of a container")
        yield entry


def _range(text: str, whole: str, what: str) -> tuple[int, int]:
    """`80` or `80-90`; what follows a second dash is nothing, as with Docker."""
    parts = text.split("-")[:2]
    matches = [_PORT.fullmatch(part) for part in parts]
    numbers = [int(match[1]) if match else -1 for match in matches]
    if not 0 <= numbers[0] <= numbers[-1] <= MAX_PORT:
        named = "" if text == whole else f"{shown(whole)}: "
        raise UsageError(f"{named}{shown(text)} is no {what}, nor a range of them")
    return numbers[0], numbers[-1]


def _bracketed(text: str, whole: str) -> str:
    """The address without the brackets that an IPv6 address needs, and any other may have."""
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    elif ":" in text:
        raise UsageError(f"{shown(whole)}: an IPv6 address goes in brackets")
    if text and canonical(text) is None:
        raise UsageError(f"{shown(whole)}: {shown(text)} is no IP address")
    return text


# --- the long form --------------------------------------------------------------------------------


def _long(value: Table) -> Entry:
    if unknown := [key for key in value if key not in _KEYS and not key.startswith("x-")]:
        raise UsageError(f"{shown(unknown[0])} is no part of a port")
    for key in _TEXTS:
        if key in value and not isinstance(value[key], str):
            raise UsageError(f"{key} is a text")
    published_ = value.get("published", "")
    if isinstance(published_, bool) or not isinstance(published_, int | str):
        raise UsageError("published is a port or a text")
    entry = Entry(value)
    entry["target"] = _target(value.get("target"))
    entry.place = value.place
    entry.unset = getattr(published_, "unset", ())
    entry.lost = () if value.get("host_ip") else getattr(value.get("host_ip"), "unset", ())
    entry.text = ", ".join(f"{key}: {_written(value[key])}" for key in value)
    return entry


def _target(value: object) -> Number:
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UsageError("target is the port of the container")
    return Number(value)


def _written(value: object) -> str:
    return str(getattr(value, "written", value))
