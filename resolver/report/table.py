"""The table of holders, one row for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.model import Kind, Whose
from resolver.report.escape import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolver.model import HolderReport, Ownership, PortReport

_HEADERS = ("PORT", "VERDICT", "KIND", "HOLDER", "ID", "USER")
_WIDEST = 40


def table(ports: Iterable[PortReport]) -> str:
    """A row for each holder; a port without any has a row of its own.

    The column PROJECT says whose each is, where any of them is another checkout's.
    """
    rows = [row for port in ports for row in _rows(port)]
    if not any(row[-1] not in {"", Whose.MINE} for row in rows):
        return columns(_HEADERS, [row[:-1] for row in rows])
    return columns((*_HEADERS, "PROJECT"), rows)


def columns(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A listing of one-line texts: a header and a line for each row."""
    from tabulate import tabulate

    text = tabulate(rows, headers=headers, tablefmt="plain", disable_numparse=True)
    return "\n".join(line.rstrip() for line in text.split("\n"))


def _rows(port: PortReport) -> list[tuple[str, ...]]:
    if not port.holders and not port.retaken_by:
        return [(port.title, port.verdict, "", "", "", "", "")]
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
    if holder.container and classification.kind is not Kind.LOCAL:
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
        escape(_project(classification.ownership), _WIDEST),
    )


def _project(found: Ownership) -> str:
    """`mine`, or another checkout's project with its branch; "" where it is not known."""
    if found.whose is not Whose.OTHER:
        return Whose.MINE if found.whose is Whose.MINE else ""
    return f"{found.project} ({found.branch})" if found.branch else found.project
