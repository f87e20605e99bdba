"""Texts in columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def columns(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A listing of one-line texts: a header and a line for each row."""
    from tabulate import tabulate

    text = tabulate(rows, headers=headers, tablefmt="plain", disable_numparse=True)
    return "\n".join(line.rstrip() for line in text.split("\n"))
