"""PURE: which other values of an environment file hold a port that has changed.

A value may be a secret, so it is spoken of by its key and its line only.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.reservations.telling import envfile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from resolver.reservations.telling.envfile import Line

# A port of this machine: behind the name of a host that is certainly this one, or of none at all,
# as in LISTEN=:3000. What is followed by "@" is a password.
_HERE = (
    rb"(?:localhost|[a-z0-9-]+\.localhost|127(?:\.[0-9]{1,3}){3}|0\.0\.0\.0|\[::1?\]"
    rb"|host\.docker\.internal|ip6-localhost)"
)
_BEFORE = rb"(?:(?:^|[\"',;| \t=(\[/@])" + _HERE + rb"|^[\"']?|[,;=][ \t]*)"
_AFTER = rb"(?![\w@])"


class Change(Struct, frozen=True):
    """A service's port that was another one; both are what a URL says behind the colon."""

    service: str
    old: int
    new: int


class Mention(Struct, frozen=True):
    """A value that holds an old port. `rewritable` says that it stands there as this machine's."""

    line: int
    key: str
    change: Change
    rewritable: bool


def changes(old: Mapping[str, Sequence[int]], new: Mapping[str, int]) -> tuple[Change, ...]:
    """What may be rewritten: old ports that are nobody's by now, each with the only new one.

    Args:
        old: the ports that each service had, or was meant to have.
        new: those that they have now.
    """
    taken = set(new.values())
    found: dict[int, set[tuple[str, int]]] = {}
    for service, ports in old.items():
        for port in ports:
            if service in new and port not in taken:
                found.setdefault(port, set()).add((service, new[service]))
    return tuple(
        Change(service, port, now)
        for port, heirs in sorted(found.items())
        if len(heirs) == 1
        for service, now in heirs
    )


def mentions(raw: bytes, made: Sequence[Change], path: object) -> tuple[Mention, ...]:
    """Every value outside of our block that holds one of the old ports, in the file's order.

    Raises:
        UsageError: the block is damaged.
    """
    found = []
    for line in _outside(raw, path):
        for change in made:
            if _pattern([change.old]).search(_said(line)):
                found.append(Mention(line.number, line.key, change, rewritable=True))
            elif _is_named(line, change.old):
                found.append(Mention(line.number, line.key, change, rewritable=False))
    return tuple(found)


def rewrite(raw: bytes, made: Sequence[Change], path: object) -> bytes:
    """The file with the new ports in those values where the old ones stand as this machine's.

    Raises:
        UsageError: the block is damaged.
    """
    pieces, done = [], 0
    for line in _outside(raw, path):
        text = _said(line)
        pieces += [raw[done : line.start], _replaced(text, made)]
        done = line.start + len(text)
    return b"".join([*pieces, raw[done:]])


def overrides(raw: bytes, keys: Sequence[str], path: object) -> tuple[tuple[Line, bool], ...]:
    """Lines outside of our block that set the same keys, and whether they win, as the last ones.

    Raises:
        UsageError: the block is damaged.
    """
    found = envfile.lines(raw, path)
    ours = {line.key: line.number for line in found if line.block}
    return tuple(
        (line, line.number > ours.get(line.key, 0))
        for line in found
        if not line.block and line.key in keys
    )


def _outside(raw: bytes, path: object) -> Iterator[Line]:
    return (line for line in envfile.lines(raw, path) if not line.block)


def _said(line: Line) -> bytes:
    """The value without a comment behind it."""
    if line.value[:1] in {b'"', b"'"}:
        return line.value
    return re.split(rb"(?:^|[ \t]+)#", line.value, maxsplit=1)[0]


def _is_named(line: Line, port: int) -> bool:
    """Whether the port stands in a URL of somebody else's, or alone behind a key that says so."""
    text = _said(line)
    alone = text.strip(b"\"'") == str(port).encode()
    elsewhere = re.search(rb":%d(?![0-9])" % port, text)
    return bool(elsewhere) or (alone and line.key.endswith("PORT"))


def _replaced(text: bytes, made: Sequence[Change]) -> bytes:
    """All changes at once, so that none of them meets what another one has written."""
    heirs = {change.old: change.new for change in made}
    if not heirs:
        return text
    return _pattern(heirs).sub(lambda found: found[1] + b":%d" % heirs[int(found[2])], text)


def _pattern(ports: Iterable[int]) -> re.Pattern[bytes]:
    """What stands before the port, and the port."""
    any_of = b"|".join(str(port).encode() for port in ports)
    return re.compile(rb"(" + _BEFORE + rb"):(" + any_of + rb")" + _AFTER, re.IGNORECASE)
