"""Prints a report: data on stdout, messages on stderr, in whatever the terminal can show."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resolver.model import Report

_PLAIN = str.maketrans({"→": "->", "…": "..."})


def show(report: Report, *, json: bool, quiet: bool, verbose: bool) -> None:
    """The report on stdout, what is said beside it on stderr."""
    notes = (*report.notes, *(report.asides if verbose else ()))
    if notes and not (quiet and report.exit_status == 0):
        from resolver.report.escape import escape  # noqa: PLC0415 - seldom

        print(*(fit(f"ultra-ports: {escape(note)}") for note in notes), sep="\n", file=sys.stderr)
    if json:
        import json as encoder  # noqa: PLC0415 - only for --json

        from resolver.report.machine import envelope  # noqa: PLC0415

        print(encoder.dumps(envelope(report), indent=2))
    elif not quiet:
        print(fit(_text(report)))


def _text(report: Report) -> str:
    if not report.ports:
        return "no port is held" if report.command == "who" else "no port has to be freed"
    if not any(port.holders or port.notes or port.verdict != "free" for port in report.ports):
        return "\n".join(f"{port.title} {port.verdict}: {port.reason}" for port in report.ports)
    from resolver.report.table import table  # noqa: PLC0415 - a free port needs none of it
    from resolver.report.tree import tree  # noqa: PLC0415

    return f"{table(report.ports)}\n\n{tree(report.ports)}".rstrip()


def fit(text: str) -> str:
    """The text in characters that stdout can encode; what has no likeness is escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        plain = text.translate(_PLAIN)
        return plain.encode(encoding, "backslashreplace").decode(encoding)
    return text
