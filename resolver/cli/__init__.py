"""The command line: parse, call, print, exit. The only room that does any of these."""

from __future__ import annotations

import os
import shutil
import sys
from types import ModuleType
from typing import TYPE_CHECKING

from resolver.errors import UltraPortsError
from resolver.report.escape import escape
from resolver.report.style import wrapped
from resolver.settings import DEBUG_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

COMPLETION_VARIABLE = "_ULTRA_PORTS_COMPLETE"  # typer's, from the name of the command
EXIT_INTERRUPTED = 130
LONGEST_MESSAGE = 1000  # characters: it may quote names that came from strangers
_PLAIN = str.maketrans({"→": "->", "…": "...", "·": "-"})


def main() -> None:
    """The one place where errors become a line and a status."""
    _open_streams()
    try:
        status = _run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("ultra-ports: interrupted", file=sys.stderr)
        status = EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except OSError as error:  # such as a full disk under our output
        print(f"ultra-ports: {error.strerror or error}", file=sys.stderr)
        status = 1
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        said = f"{type(error).__name__}: {error}"
        print(
            f"ultra-ports: internal error, please report it: {said!r} "
            f"({DEBUG_VARIABLE}=1 shows the traceback)",
            file=sys.stderr,
        )
        status = 1
    sys.exit(status)


def _open_streams() -> None:
    """Gives closed standard streams a place to go: `>&-` is not a reason to fail half-way."""
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115


def _run() -> int:
    """Loads the rest, now that Ctrl-C and errors are told as they should be."""
    try:
        if COMPLETION_VARIABLE in os.environ:
            _prepare_completion()
        from resolver.cli.app import run

        return run()
    except UltraPortsError as error:
        say([str(error)], f" ({error.hint})" if error.hint else "")
        return int(error.status)


def _prepare_completion() -> None:
    """Has typer offer help texts as they are, soon: somebody waits for each <TAB>.

    Where rich is installed typer has rich read them as markup, and break them into lines of 80, of
    which fish would offer each; and rich takes as long to load as typer itself.
    """
    renderer = ModuleType("typer.rich_utils")
    vars(renderer)["rich_render_text"] = str
    sys.modules[renderer.__name__] = renderer


def say(messages: Iterable[str], hint: str = "") -> None:
    """Messages on stderr, a line each with the hint, which a terminal gets wrapped at spaces."""
    width = terminal_width(sys.stderr)
    for message in messages:
        line = wrapped(f"ultra-ports: {escape(message, LONGEST_MESSAGE)}{hint}", width)
        print(fit(line), file=sys.stderr, flush=True)


def terminal_width(stream: TextIO) -> int | None:
    """The columns of a terminal; COLUMNS, where it is set, has the last word."""
    if not stream.isatty():
        return None
    seen = os.get_terminal_size(stream.fileno())
    return shutil.get_terminal_size((seen.columns or 80, seen.lines)).columns


def fit(text: str) -> str:
    """The text in characters that stdout can encode; what has no likeness is escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        plain = text.translate(_PLAIN)
        return plain.encode(encoding, "backslashreplace").decode(encoding)
    return text
