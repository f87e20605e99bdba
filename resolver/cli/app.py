"""The typer application: one command file for each family."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from resolver import __version__
from resolver.cli import plan, ports
from resolver.model import ExitStatus

EPILOG = """\b
Exit status:
  0  every port is free: bound for proof, and still free after --settle
  1  still held, or taken back
  2  usage: nothing was touched
  3  advisory or refusal: nothing was touched, the right command is printed
  4  hidden or not permitted: what to run with sudo is printed
  5  undecidable: the engine did not answer, and nothing local explains the port
  130  interrupted
Several ports: the worst, in the order 1, 5, 4, 3, 0.
`who` exits 0 when it could answer (held or free), 4 or 5 when it could not."""

app = typer.Typer(
    name="ultra-ports",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)
"""The application; its commands are registered below."""


def _version(wanted: bool) -> None:
    if wanted:
        print(f"ultra-ports {__version__}")
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Examples:

    \b
      ultra-ports resolve 8085           free the port, and prove it
      ultra-ports resolve 8085 3000-3010 several ports at once
      ultra-ports resolve -n 8085        say what would be done
      ultra-ports who 8085               who holds it, and what would free it
      ultra-ports who                    every port that is held
      ultra-ports apply plan.json        what `resolve --plan-out plan.json 8085` planned

    Frees ports without doing harm: local processes get a SIGTERM and time, containers a
    `docker stop`, and what a manager would start again is named with the command that stops it.
    """  # noqa: D415, D301 - a help text, with click's mark for verbatim paragraphs
    del version


app.command(
    epilog=EPILOG, short_help="Free ports without doing harm, and prove it by binding them."
)(ports.resolve)
app.command(
    epilog=EPILOG, short_help="Say who holds ports, why, and what would free them; touch nothing."
)(ports.who)
app.command(epilog=EPILOG, short_help="Do what a plan file says, if no holder has changed since.")(
    plan.apply
)


def run() -> int:
    """Runs the command line of this process and returns its exit status."""
    try:
        result = app(standalone_mode=False)
    except TyperException as error:
        print(f"ultra-ports: {error.format_message()}", file=sys.stderr)
        return int(ExitStatus.USAGE)
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    return result if isinstance(result, int) else 0
