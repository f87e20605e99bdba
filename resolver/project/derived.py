"""PURE: `[export]` of the project file: variables that are made of the ports of services."""

from __future__ import annotations

import re
from string import Formatter
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import UsageError
from resolver.project.checked import shown

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

CHECKOUT = "checkout"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_PARTS = ("port", "host", "url")


class Derived(Struct, frozen=True):
    """One variable: `text` is for `str.format`, with fields like `{api.port}` and `{checkout}`."""

    name: str
    text: str

    @property
    def services(self) -> frozenset[str]:
        """The services that it is made of."""
        return frozenset(field.partition(".")[0] for field in _fields(self.text)) - {CHECKOUT}

    def filled(self, values: Mapping[str, str]) -> str:
        """What it is where the fields are these: `api.port`, `api.host`, `api.url`, `checkout`."""
        parts = Formatter().parse(self.text)
        return "".join(text + (values[field] if field else "") for text, field, _, _ in parts)


def derived(name: str, value: str | list[str], services: Collection[str]) -> Derived:
    """One entry of `[export]`, checked; a list is joined by commas.

    Raises:
        UsageError: it makes no sense; the message names the key, and what was expected there.
    """
    where = f"export.{name if _VARIABLE.fullmatch(name) else shown(name)}"
    if not _VARIABLE.fullmatch(name):
        raise UsageError(f"{where}: expected the name of a variable, such as API_URL")
    text = value if isinstance(value, str) else ",".join(value)
    if not text.isprintable() or "'" in text:
        raise UsageError(f"{where}: expected one line without ', not {shown(text)}")
    known = {CHECKOUT, *(f"{service}.{part}" for service in services for part in _PARTS)}
    expected = "{SERVICE.port}, {SERVICE.host}, {SERVICE.url} or {checkout}"
    try:
        wrong = [field for field in _fields(text) if field not in known]
    except ValueError as error:
        said = f"{where}: expected braces around {expected}, and {{{{ for a brace itself"
        raise UsageError(f"{said}, not {shown(text)}") from error
    if wrong:
        there = ", ".join(sorted(services)) or "none"
        raise UsageError(
            f"{where}: expected {expected}, not {shown('{' + wrong[0] + '}')} "
            f"(services there are: {there})"
        )
    return Derived(name, text)


def _fields(text: str) -> list[str]:
    """What stands in braces, with the conversions and formats that no field of ours has.

    Raises:
        ValueError: the braces do not match.
    """
    found = []
    for _, field, spec, conversion in Formatter().parse(text):
        if field is not None:
            found.append(
                field + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            )
    return found
