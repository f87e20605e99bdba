"""What evidence and reasons are made of: a number of things, and the first few of many. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def counted(number: int, noun: str) -> str:
    """`1 client`, `2 clients`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[object], most: int) -> str:
    """The first `most` of them, and `…` for the others."""
    return ", ".join((*map(str, names[:most]), *(["…"] if len(names) > most else [])))
