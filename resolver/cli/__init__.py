"""The command line: parse, call, print, exit. The only room that does any of these."""

from __future__ import annotations

import os
import sys

DEBUG_VARIABLE = "ULTRA_PORTS_DEBUG"
EXIT_INTERRUPTED = 130
LONGEST_MESSAGE = 1000  # characters: it may quote names that came from strangers


def main() -> None:
    """Entry point of `ultra-ports`: the one place where errors become a line and a status."""
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
    from resolver.cli import quick  # noqa: PLC0415 - so that Ctrl-C is handled from the start
    from resolver.errors import UltraPortsError  # noqa: PLC0415
    from resolver.settings import LOG_VARIABLE  # noqa: PLC0415

    try:
        if os.environ.get(LOG_VARIABLE):
            from resolver.cli.logs import begin  # noqa: PLC0415 - only where it is wanted

            begin(os.environ[LOG_VARIABLE])
        status = quick.run(sys.argv[1:])
        if status is not None:
            return status
        from resolver.cli.app import run  # noqa: PLC0415 - typer is slow to load

        return run()
    except UltraPortsError as error:
        from resolver.report.escape import escape  # noqa: PLC0415 - seldom

        said = escape(str(error), LONGEST_MESSAGE)
        print(f"ultra-ports: {said}" + (f" ({error.hint})" if error.hint else ""), file=sys.stderr)
        return int(error.status)
