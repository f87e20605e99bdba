"""Texts in columns, fitted to a width."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from resolver.report.escape import escape
from resolver.report.style import wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_GAP = 2  # blanks between two columns
_LEAST = 9  # characters of a column that is cut
_WHOLE = "PORT"  # is never cut: a port is to be copied
_EMPTY = ("", "-")
_MOST = 3  # lines of a row that is too long for a table


def columns(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: int | None = None,
    painted: Mapping[str, Callable[[str], str]] = MappingProxyType({}),
) -> str:
    """A listing of one-line texts: a header and a line for each row.

    Where it is too narrow for that, each row has its cells behind the names of their columns.

    Args:
        headers: one for each column.
        rows: as many cells each.
        width: in columns of a terminal, to which it is cut; None cuts nothing.
        painted: by the header of a column, what puts its cells in colour.
    """
    from tabulate import tabulate

    fitted = rows if width is None else _fitted(headers, rows, width)
    if fitted is None:
        return "\n".join(wrapped(_record(headers, row), width, most=_MOST) for row in rows)
    paints = [painted.get(header, str) for header in headers]
    cells = [[paint(cell) for paint, cell in zip(paints, row, strict=True)] for row in fitted]
    text = tabulate([headers, *cells], tablefmt="plain", disable_numparse=True)
    return "\n".join(line.rstrip() for line in text.split("\n"))


def _record(headers: Sequence[str], row: Sequence[str]) -> str:
    filled = zip(headers, row, strict=True)
    return " · ".join(f"{name} {cell}" for name, cell in filled if cell not in _EMPTY)


def _fitted(
    headers: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> Sequence[Sequence[str]] | None:
    """The rows, with what is too long cut: the last column to what the others leave of it.

    None where even that is too wide.
    """
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    room = width - _GAP * (len(widths) - 1)
    if sum(widths) <= room:
        return rows
    least = [
        each if name == _WHOLE else min(each, max(len(name), _LEAST))
        for each, name in zip(widths, headers, strict=True)
    ]
    if sum(least) > room:
        return None
    kept = [
        max(least_of, min(each, width // 4)) for each, least_of in zip(widths, least, strict=True)
    ]
    kept[-1] = least[-1]
    while sum(kept) > room:  # the widest of those that can be cut gives way first
        longer = [number for number, each in enumerate(kept) if each > least[number]]
        kept[max(longer, key=kept.__getitem__)] -= 1
    kept[-1] = max(room - sum(kept[:-1]), kept[-1])
    return [[_cut(cell, most) for cell, most in zip(row, kept, strict=True)] for row in rows]


def _cut(cell: str, most: int) -> str:
    return cell if len(cell) <= most else escape(cell, most - 1)
