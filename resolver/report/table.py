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
    text = tabulate([headers, *cells], tablefmt="plain", disable_numparse=True)
    return "\n".join(line.rstrip() for line in text.split("\n"))


def _fitted(
    headers: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> Sequence[Sequence[str]]:
    """The rows, with what is too long cut: the last column to what the others leave of it."""
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    gaps = _GAP * (len(widths) - 1)
    if sum(widths) + gaps <= width:
        return rows
    kept = [
        min(each, max(width // 4, len(name))) for each, name in zip(widths, headers, strict=True)
    ]
    kept[-1] = _LEAST
    while sum(kept) + gaps > width and max(kept) > _LEAST - 1:  # the widest gives way first
        kept[kept.index(max(kept))] -= 1
    kept[-1] = max(width - gaps - sum(kept[:-1]), kept[-1])
    return [[_cut(cell, most) for cell, most in zip(row, kept, strict=True)] for row in rows]


def _cut(cell: str, most: int) -> str:
    return cell if len(cell) <= most else escape(cell, most - 1)
