"""`ultra-ports preflight`, `ultra-ports up`, and what `resolve --compose` adds to `resolve`."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resolver.cli.answers import command_line
from resolver.cli.options import DockerTimeout, Json, NoDocker, Quiet, Verbose
from resolver.cli.output import fit
from resolver.compose.model import ComposeArguments
from resolver.errors import UsageError

if TYPE_CHECKING:
    from resolver.compose.findings import Preflight
    from resolver.compose.preflight import Wish

File = Annotated[
    list[str] | None,
    typer.Option("--file", "-f", metavar="FILE", help="A compose file; may be repeated."),
]
Profile = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="A profile to enable; may be repeated."),
]
ProjectName = Annotated[
    str, typer.Option("--project", "-p", metavar="NAME", help="The project's name.")
]


def preflight(
    file: File = None,
    profile: Profile = None,
    project: ProjectName = "",
    json: Json = False,
    no_docker: NoDocker = False,
    docker_timeout: DockerTimeout = 2.0,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Examples:

    \b
      ultra-ports preflight
      ultra-ports preflight -f compose.yml -f compose.dev.yml --profile debug
      ultra-ports preflight --json

    Says what the compose project would publish, and what would be in its way.
    Changes nothing.
    """  # noqa: D415, D301 - a help text
    from resolver.compose.preflight import preflight as look  # noqa: PLC0415

    arguments = arguments_of(file, profile, project)
    options: dict[str, Any] = {
        "use_docker": not no_docker,
        "docker_timeout_seconds": docker_timeout,
        "again": command_line(),
    }
    found = look(wish(arguments), **options)
    _tell(found, quiet=quiet, verbose=verbose)
    if json:
        import json as encoder  # noqa: PLC0415 - only for --json

        from resolver.report.preflight import envelope  # noqa: PLC0415

        print(encoder.dumps(envelope(found), indent=2))
    elif not quiet:
        from resolver.report.preflight import text  # noqa: PLC0415

        following = resolving(arguments) if found.taken and not found.hopeless else ""
        print(fit(text(found, following)))
    return int(found.exit_status)


def arguments_of(
    file: list[str] | None, profile: list[str] | None, project: str
) -> ComposeArguments:
    """What the command line says of the project."""
    return ComposeArguments(tuple(file or ()), tuple(profile or ()), project)


def wish(arguments: ComposeArguments, **more: Any) -> Wish:  # noqa: ANN401 - a wish's own fields
    """What the caller wants, here and now.

    Raises:
        UsageError: the working directory is gone.
    """
    from resolver.compose.preflight import Wish  # noqa: PLC0415 - `-h` needs none of it

    try:
        cwd = Path.cwd()
    except OSError as error:
        raise UsageError(f"the working directory cannot be read: {error.strerror}") from error
    return Wish(arguments, os.environ, cwd, hint=resolving(arguments), **more)


def resolving(arguments: ComposeArguments) -> str:
    """The command that frees what outsiders hold of this project's ports."""
    return shlex.join(["ultra-ports", "resolve", "--compose", *options_of(arguments)])


def options_of(arguments: ComposeArguments) -> list[str]:
    """The options that name the project, as they were given."""
    words = [word for file in arguments.files for word in ("-f", file)]
    words += [word for profile in arguments.profiles for word in ("--profile", profile)]
    return [*words, *(["--project", arguments.project] if arguments.project else [])]


def _tell(found: Preflight, *, quiet: bool, verbose: bool) -> None:
    from resolver.report.escape import escape  # noqa: PLC0415

    notes = (*found.notes, *(found.report.asides if verbose else ()))
    for note in () if quiet and found.exit_status == 0 else dict.fromkeys(notes):
        print(fit(f"ultra-ports: {escape(note)}"), file=sys.stderr)
