"""The options that name a compose project, for typer, and what they mean."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from resolver.compose.model import ComposeArguments

COMPOSE_EPILOG = """\b
Exit status:
  0  preflight: nothing is in the way; up: each published port answers
  1  up: compose failed, or a port does not answer: which, and why
  2  usage, no compose command, no compose file, or one that makes no sense:
     nothing was touched
  3  conflicts: nothing was started, the right command is printed
  4  a port is held by somebody who is hidden from this user
  5  undecidable: the engine did not answer
  130  interrupted"""

Files = Annotated[
    list[str] | None,
    typer.Option("--file", "-f", metavar="FILE", help="A compose file; may be repeated."),
]
Profiles = Annotated[
    list[str] | None,
    typer.Option("--profile", metavar="NAME", help="A profile to enable; may be repeated."),
]
ProjectName = Annotated[
    str,
    typer.Option("--project", "-p", metavar="NAME", help="The project's name.", show_default=False),
]


def arguments_of(
    files: list[str] | None, profiles: list[str] | None, project: str
) -> ComposeArguments:
    """What the command line says of the project."""
    return ComposeArguments(tuple(files or ()), tuple(profiles or ()), project)


def resolving(arguments: ComposeArguments) -> str:
    """The command that frees what outsiders hold of this project's ports."""
    words = ["ultra-ports", "resolve", "--compose"]
    words += [word for file in arguments.files for word in ("-f", file)]
    words += [word for profile in arguments.profiles for word in ("--profile", profile)]
    return shlex.join([*words, *(["--project", arguments.project] if arguments.project else [])])
