"""`ultra-ports man`: the manual page, made of the help texts (man(7), groff_man(7))."""

from __future__ import annotations

from resolver import __version__
from resolver.cli import app, options
from resolver.cli.commands import COMMANDS

_COLUMNS = 78
_HEAD = f"""\
.TH ULTRA-PORTS 1 "" "ultra-ports {__version__}" "User Commands"
.SH NAME
ultra-ports \\- frees ports without doing harm, and says who holds them
.SH SYNOPSIS
.B ultra-ports
.I COMMAND
.RI [ PORT ...]
.SH DESCRIPTION
"""


def man() -> int:
    """Examples:

    \b
      ultra-ports man | man -l -
      ultra-ports man >~/.local/share/man/man1/ultra-ports.1

    Prints the manual page: the help of every command, for man(1).
    """  # noqa: D415, D301 - a help text
    print(page(), end="")
    return 0


def page() -> str:
    """The whole page, in the language of man(7)."""
    parts = [_HEAD, _verbatim(app.overview()), ".SH COMMANDS\n"]
    for name, (_, summary) in COMMANDS.items():
        parts += [f".SS {name} \\- {_escaped(summary)}\n", _verbatim(_help(name))]
    return "".join([*parts, ".SH EXIT STATUS\n", _verbatim(options.EPILOG.removeprefix("\b\n"))])


def _help(name: str) -> str:
    command = app.load(name)
    context = command.context_class(
        command, info_name=f"ultra-ports {name}", terminal_width=_COLUMNS
    )
    return str(command.get_help(context))


def _verbatim(text: str) -> str:
    return f".nf\n.in 2\n{_escaped(text.strip())}\n.in\n.fi\n"


def _escaped(text: str) -> str:
    """The text as roff takes it for what it is: no line is a request, no backslash an escape."""
    lines = text.replace("\\", "\\e").replace("-", "\\-").split("\n")
    return "\n".join(f"\\&{line}" if line[:1] in {".", "'"} else line for line in lines)
