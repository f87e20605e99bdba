"""The command line: parse, call, print, exit. The only room that does any of these."""

from __future__ import annotations

import os
import sys
from types import ModuleType

from resolver.errors import UltraPortsError
from resolver.settings import DEBUG_VARIABLE, LOG_VARIABLE

COMPLETION_VARIABLE = "_ULTRA_PORTS_COMPLETE"  # typer's, from the name of the command
EXIT_INTERRUPTED = 130
LONGEST_MESSAGE = 1000  # characters: it may quote names that came from strangers


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
        if os.environ.get(LOG_VARIABLE):
            from resolver.cli.logs import begin

            begin(os.environ[LOG_VARIABLE])
        if COMPLETION_VARIABLE in os.environ:
            _prepare_completion()
        from resolver.cli.app import run

        return run()
    except UltraPortsError as error:
        from resolver.cli.output import say

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
