"""Every port that is held, a line for each, fitted to the width."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.model import Kind, Whose
from resolver.report.escape import escape
from resolver.report.holders import holder_name
from resolver.report.story import command_line, is_unseen
from resolver.report.style import masked
from resolver.report.table import columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from resolver.model import Command, HolderReport, Ownership, PortReport
    from resolver.report.style import TextStyle

    _Row = tuple[str, ...]

_HEADERS = ("PORT", "HOLDER", "PID", "USER", "PROJECT", "COMMAND")
_WIDEST = 40
_LONGEST = 1000  # characters of a command line, as of any line
_NOTHING = "-"


def listing(ports: Sequence[PortReport], style: TextStyle) -> str:
    """A line for each port and owner; below them, in one line, what this user may not look into."""
    rows = list(dict.fromkeys(_row(port, each) for port in ports for each in _seen(port)))
    lines = [columns(_HEADERS, rows, width=style.width)] if rows else []
    return "\n".join([*lines, *_unseen(ports, "more " if rows else "", style)])


def _seen(port: PortReport) -> Iterator[HolderReport]:
    return (each for each in port.holders if not is_unseen(each))


def _row(port: PortReport, report: HolderReport) -> _Row:
    found, holder = report.classification, report.holder
    master, container = holder.master, holder.container
    name, pid, command = holder_name(holder), _NOTHING, _NOTHING
    if container and found.kind is not Kind.LOCAL:
        command = container.image
    elif master:
        name, pid, command = master.name, str(master.pid), command_line(master)
    elif found.chain:
        name, command = found.chain[0], found.chain[-1]
    if found.manager and not container:
        name = f"{found.manager.name} ({found.manager.kind})"
    user = (master.user if master else None) or _NOTHING
    cells = (str(port.request), name, pid, user, _project(found.ownership))
    return (*(escape(cell, _WIDEST) for cell in cells), escape(masked(command), _LONGEST))


def _project(found: Ownership) -> str:
    """`mine: shop`, or another checkout's project with its branch."""
    if found.whose is Whose.MINE:
        return ": ".join(filter(None, (Whose.MINE, found.project)))
    if found.whose is Whose.UNKNOWN:
        return _NOTHING
    return f"{found.project} ({found.branch})" if found.branch else found.project


def _unseen(ports: Sequence[PortReport], more: str, style: TextStyle) -> Iterator[str]:
    labels: dict[str, list[str]] = {}
    commands: dict[Command, None] = {}
    for port in ports:
        for each in filter(is_unseen, port.holders[:1]):
            labels.setdefault(each.classification.reason, []).append(str(port.request))
            commands |= dict.fromkeys(each.step.commands if each.step else ())
    for reason, found in labels.items():
        count = f"1 {more}port is" if len(found) == 1 else f"{len(found)} {more}ports are"
        yield style.line(f"{count} {reason}: {', '.join(found)}", "")
    yield from (style.command("run", each) for each in commands)
