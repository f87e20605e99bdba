"""The typer application: its commands, and the loading of the one that was typed, and no other."""

from __future__ import annotations

import os
import re
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.exceptions import TyperException
from typer.main import get_command, get_install_completion_arguments

from resolver import __version__
from resolver.cli import logs
from resolver.cli.commands import COMMANDS, GROUPS, MEANT
from resolver.errors import UsageError
from resolver.model import ExitStatus
from resolver.portspec import parse
from resolver.settings import LOG_VARIABLE
from resolver.shell import join

if TYPE_CHECKING:
    from collections.abc import Callable

SHORT_HELP = """\
Usage: ultra-ports COMMAND [PORT...]

  ultra-ports who 8085       who holds it, and what would free it
  ultra-ports resolve 8085   free it, and prove it
  ultra-ports -h             every command"""
OVERVIEW = """\
Usage: ultra-ports COMMAND [PORT...]   (COMMAND -h: its options; -V: version)

  ultra-ports 8085              who holds it, and what would free it
  ultra-ports resolve 8085      free it, and prove it
  ultra-ports wait 8085 -- CMD  run CMD once it is held, and answers
"""
STATUSES = """\
Exit status: 0 done or answered, 1 still held, 2 usage, 3 nothing was touched
  and the right command is printed, 4 hidden, 5 undecidable, 130 interrupted."""
_EXPECTATIONS = (
    (
        r"Invalid value for '(.+?)': (.+) is not a valid (?:float|integer)\.",
        r"\1: expected a number, not \2",
    ),
    (r"Invalid value for '(.+?)': (.+) is not one of (.+)\.", r"\1: expected one of \3, not \2"),
    (r"Invalid value for '(.+?)': (.+)", r"\1: \2"),
    (r"Missing argument '(.+)'\.", r"\1 is missing"),
    (r"Option '(.+)' requires an argument\.", r"\1: expected a value behind it"),
    (r"No such command '(.+)'\.", r"there is no command '\1' (ultra-ports -h lists them)"),
    (r"No such option: (\S+)(.*)", r"there is no option \1\2"),
)
"""What the parser says, and what a person wants to know."""


class LazyGroup(TyperGroup):
    """Knows every command by its name and its line of help; loads the one that was typed."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - the parent's own signature
        super().__init__(**options)
        self.commands = {
            name: TyperCommand(name, short_help=summary) for name, (_, summary) in COMMANDS.items()
        }

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - vendored classes
        """The overview, in the place of typer's own."""
        del ctx
        formatter.write(overview())

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - vendored classes
        """The words; of an empty line, those that are typed below a listing of what is held."""
        if not args and not ctx.resilient_parsing:
            if not (sys.stdin.isatty() and sys.stdout.isatty()):
                print(SHORT_HELP, file=sys.stderr)
                raise typer.Exit(ExitStatus.USAGE)
            args = _interruptible(import_module("resolver.cli.alone").chosen)
            sys.argv[1:] = args  # an advice repeats it
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - vendored classes
        """The command that was typed, loaded, and the rest of the line.

        `help COMMAND` is `COMMAND --help`. A port alone is looked at; what other tools call it is
        answered with what is meant, and nothing is done.
        """
        if args and args[0] == "help":
            if not args[1:]:
                print(overview(), end="")
                raise typer.Exit
            args = [args[1], "--help"]
        if args and args[0] in MEANT:
            command = join(("ultra-ports", MEANT[args[0]], *args[1:]))
            raise UsageError(f"there is no command {args[0]!r}; what is meant may be: {command}")
        if args and args[0] not in self.commands and _is_port(args[0]):
            args = ["who", *args]
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(name) if name else None, rest

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - vendored classes
        """Runs it."""
        return _interruptible(lambda: super(LazyGroup, self).invoke(ctx))


def _interruptible(call: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever it returns
    """What it returns; Ctrl-C is told in `main`, where typer would end without a word."""
    try:
        return call()
    except KeyboardInterrupt as error:
        raise typer.Abort from error


def overview() -> str:
    """Every command in its group, and the exit statuses, on one screen."""
    lines = [OVERVIEW]
    for group, names in GROUPS.items():
        lines += [f"{group}:", *(f"  {name:<13} {COMMANDS[name][1]}" for name in names)]
    others = [name for name in COMMANDS if not any(name in names for names in GROUPS.values())]
    return "\n".join([*lines, "More:", f"  {', '.join(others)}", STATUSES, ""])


def _is_port(word: str) -> bool:
    try:
        parse([word])
    except UsageError:
        return False
    return True


def load(name: str) -> Any:  # noqa: ANN401 - a vendored class without a public name
    """Loads a command's module, and makes typer's command of its function."""
    module = import_module(f"resolver.cli.{COMMANDS[name][0]}")
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(
        name,
        epilog=getattr(module, f"{name.upper()}_EPILOG", getattr(module, "EPILOG", None)),
        context_settings=getattr(module, "CONTEXT_SETTINGS", None),
    )(getattr(module, name.replace("-", "_")))
    return get_command(single)


app = typer.Typer(
    name="ultra-ports",
    cls=LazyGroup,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"ultra-ports {__version__}")
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", help="Print the version.", callback=_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Runs what the command says."""
    del version


def _in_plain_words(message: str) -> str:
    for form, plain in _EXPECTATIONS:
        if re.fullmatch(form, message, re.DOTALL):
            return re.sub(form, plain, message, count=1, flags=re.DOTALL)
    return message


def _completion() -> list[TyperOption]:
    """`--install-completion` and `--show-completion`, hidden, and what their scripts ask for."""
    options = [e for e in get_install_completion_arguments() if isinstance(e, TyperOption)]
    for option in options:
        option.hidden = True  # the help is about ports
    return options


def run() -> int:
    """Runs the command line of this process and returns its exit status."""
    if setting := os.environ.get(LOG_VARIABLE):
        logs.begin(setting)
    command = get_command(app)
    if not COMMANDS.keys() & sys.argv[1:2]:  # a shell that wants to know what there is types none
        command.params += _completion()
    try:
        result = command(prog_name=app.info.name, standalone_mode=False)
    except TyperException as error:
        raise UsageError(_in_plain_words(error.format_message())) from error
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    return result if isinstance(result, int) else 0
