"""Settings as a table and as plain values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.json_text import Envelope
from resolver.report.escape import escape
from resolver.report.table import columns

if TYPE_CHECKING:
    from collections.abc import Iterable

_HEADERS = ("SETTING", "VALUE", "FROM")
_LONGEST = 200


class Row(Struct, frozen=True):
    """One setting: its value, "" where it has none, where that came from, and what it is for."""

    name: str
    value: str
    origin: str
    description: str


class SettingsEnvelope(Envelope, frozen=True, kw_only=True, tag="ultra-ports.config/1"):
    """The settings, in the order in which they are listed."""

    command: str = "config"
    settings: tuple[Row, ...]


def table(rows: Iterable[Row]) -> str:
    """A row for each setting."""
    shown = [
        (escape(row.name), escape(row.value, _LONGEST), escape(row.origin, _LONGEST))
        for row in rows
    ]
    return columns(_HEADERS, shown)


def hidden_password(address: str) -> str:
    """An address without its user and password, and without what may follow its path."""
    bare = address.partition("?")[0]
    return re.sub(r"^([^/@]*//)?.*@", r"\1***@", bare)
