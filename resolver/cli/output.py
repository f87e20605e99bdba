"""Prints: data on stdout, messages on stderr, in whatever the terminal can show."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from resolver.cli import LONGEST_MESSAGE
from resolver.json_text import encode
from resolver.report import machine
from resolver.report.escape import escape
from resolver.report.table import table
from resolver.report.tree import tree

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.model import Report

_PLAIN = str.maketrans({"→": "->", "…": "..."})


def show(report: Report, *, json: bool, quiet: bool, verbose: bool) -> None:
    """The report on stdout, what is said beside it on stderr."""
    if not (quiet and report.exit_status == 0):
        say((*report.notes, *(report.verbose_notes if verbose else ())))
    if json:
        print_json(machine.envelope(report))
    elif not quiet:
        print(fit(_text(report)))


def say(messages: Iterable[str]) -> None:
    """Messages on stderr, a line each."""
    for message in messages:
        print(fit(f"ultra-ports: {escape(message, LONGEST_MESSAGE)}"), file=sys.stderr, flush=True)


def print_json(envelope: object) -> None:
    """One envelope on stdout."""
    print(encode(envelope))


def _text(report: Report) -> str:
    if not report.ports:
        return "no port is held" if report.command == "who" else "no port has to be freed"
    if not any(port.holders or port.notes or port.verdict != "free" for port in report.ports):
        return "\n".join(f"{port.title} {port.verdict}: {port.reason}" for port in report.ports)
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
