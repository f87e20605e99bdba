"""The typer application: loads the file of the command that was typed, and no other."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from resolver import __version__
from resolver.cli.commands import COMMANDS, EPILOG
from resolver.model import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Callable

_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


class LazyGroup(TyperGroup):
    """Builds a command when it is asked for: a command line names one of many."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - the parent's own signature
        super().__init__(**options)
        self.commands: Any = dict.fromkeys(COMMANDS)  # names alone, for lists and suggestions

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override] # noqa: ANN401, ARG002
        """The command of this name; None where there is none."""
        return build(cmd_name) if cmd_name in COMMANDS else None


def build(name: str) -> Any:  # noqa: ANN401 - a vendored class without a public name
    """Loads one command's file and makes typer's command of its function."""
    entry = COMMANDS[name]
    module = import_module(entry.module)
    function: Callable[..., int] = getattr(module, entry.function)
    single = typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=_SETTINGS,
    )
    single.command(
        name,
        epilog=getattr(module, "EPILOG", None),
        short_help=entry.summary,
        context_settings={**_SETTINGS, **entry.settings},
    )(function)
    return typer.main.get_command(single)


app = typer.Typer(
    name="ultra-ports",
    cls=LazyGroup,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings=_SETTINGS,
    epilog=EPILOG,
)
"""The application; its commands are listed in `commands.py`."""


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
