"""The table of holders, one row for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.report.escape import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolver.model import HolderReport, PortReport

_HEADERS = ("PORT", "VERDICT", "KIND", "HOLDER", "ID", "USER")
_WIDEST = 40
_MARGIN = 2  # beside a header, as tabulate leaves it


def table(ports: Iterable[PortReport]) -> str:
    """A row for each holder; a port without any has a row of its own."""
    return columns(_HEADERS, [row for port in ports for row in _rows(port)])


def columns(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """What tabulate's format `plain` makes of one-line texts.

    Loading tabulate takes longer than finding who holds a port; listings that nobody waits for
    before a start are tabulate's.
    """
    widths = [
        max(len(header) + _MARGIN, *map(len, column))
        for header, *column in zip(headers, *rows, strict=True)
    ]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (headers, *rows)
    )


def _rows(port: PortReport) -> list[tuple[str, ...]]:
    if not port.holders and not port.retaken_by:
        return [(port.title, port.verdict, "", "", "", "")]
    return [
        _row(port.verdict, holder) for holder in dict.fromkeys((*port.holders, *port.retaken_by))
    ]


def _row(verdict: str, report: HolderReport) -> tuple[str, ...]:
    classification = report.classification
    holder = classification.holder
    name, identifier, user = "?", "", ""
    if holder.master:
        name, identifier = holder.master.name, str(holder.master.pid)
        user = holder.master.user or ""
    if holder.container:
        name, identifier = holder.container.name, holder.container.id[:12]
    if classification.manager:
        name = classification.manager.name
    if holder.hidden:
        user = str(holder.uid if holder.uid is not None else "")
    return (
        str(holder.binding),
        verdict,
        classification.kind,
        escape(name, _WIDEST),
        escape(identifier, _WIDEST),
        escape(user, _WIDEST),
    )
