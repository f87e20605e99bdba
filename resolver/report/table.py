"""Texts in columns, fitted to a width."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.report.escape import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_GAP = 2  # blanks between two columns
_LEAST = 10  # characters of the last column


def columns(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: int | None = None,
    painted: Mapping[int, Callable[[str], str]] | None = None,
) -> str:
    """A listing of one-line texts: a header and a line for each row.

    Args:
        headers: one for each column.
        rows: as many cells each.
        width: in columns of a terminal, to which it is cut; None cuts nothing.
        painted: by the number of a column, what puts its cells in colour.
    """
    from tabulate import tabulate

    fitted = rows if width is None else _fitted(headers, rows, width)
    paint = painted or {}
    cells = [
        [paint[number](cell) if number in paint else cell for number, cell in enumerate(row)]
        for row in fitted
    ]
    text = tabulate(cells, headers=headers, tablefmt="plain", disable_numparse=True)
    return "\n".join(line.rstrip() for line in text.split("\n"))


def _fitted(
    headers: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> Sequence[Sequence[str]]:
    """The rows, with what is too long cut: the last column to what the others leave of it."""
    if sum(_widths(headers, rows)) - _GAP <= width:
        return rows
    cut = [[escape(cell, width // 4 - 1) for cell in row[:-1]] for row in rows]
    room = max(width - sum(_widths(headers[:-1], cut)), _LEAST)
    return [[*cells, escape(row[-1], room - 1)] for cells, row in zip(cut, rows, strict=True)]


def _widths(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """What each column takes; tabulate pads its header, too."""
    padded = [header + " " * _GAP for header in headers]
    return [max(map(len, column)) + _GAP for column in zip(padded, *rows, strict=True)]
