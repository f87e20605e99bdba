"""`ultra-ports assign`: ports for the services of a project, and those who depend on them told."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from resolver.cli.options import NoDocker, Verbose
from resolver.cli.output import fit
from resolver.cli.store import opened
from resolver.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from resolver.cli.told import EnvFile
    from resolver.project.model import Project
    from resolver.reservations.assigning.assign import Assigned, Terms
    from resolver.reservations.assigning.pool import Wish

EPILOG = """\b
Exit status:
  0  every service has a port, which is leased to the project
  1  no port is left, or with --strict one is held or reserved by another
  2  usage, or a damaged file: nothing was touched
  130  interrupted
The order: the preferred port, the one used last, the project's pool, and then
ports below the ephemeral range."""


class Format(StrEnum):
    """What stdout gets."""

    ENV = "env"
    JSON = "json"
    SHELL = "shell"
    COMPOSE = "compose"


def assign(
    services: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME[:PORT]...]",
            help="api:8085, api:8000-8100, api:127.0.0.1:8085, dns:53/udp, or api alone; "
            "without any: every service of the project file.",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail where a port is not to be had.")
    ] = False,
    env_file: Annotated[
        str | None,
        typer.Option("--env-file", metavar="FILE", help="Keep a block of variables in this file."),
    ] = None,
    rewrite: Annotated[
        bool,
        typer.Option("--rewrite", help="Also replace old ports in the file's other values."),
    ] = False,
    form: Annotated[Format, typer.Option("--format", help="What to print on stdout.")] = Format.ENV,
    compose_files: Annotated[
        list[str] | None,
        typer.Option("--file", "-f", metavar="FILE", help="A compose file, for --format compose."),
    ] = None,
    ttl: Annotated[
        str, typer.Option(metavar="TIME", help="How long the ports stay leased: 90s, 10m, 8h, 2d.")
    ] = "8h",
    project: Annotated[
        str, typer.Option(metavar="NAME", help="The project's name, in place of its own.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Say what would be assigned; write nothing.")
    ] = False,
    no_docker: NoDocker = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing on stderr but errors.")
    ] = False,
    verbose: Verbose = False,
) -> int:
    """Examples:

    \b
      ultra-ports assign api:8085 web:3000 redis:6379
      ultra-ports assign --env-file .env             every service of the project file
      ultra-ports assign --env-file .env --rewrite   also in URLs and lists of origins
      eval "$(ultra-ports assign --format shell api:8085)"
      ultra-ports assign --format compose >ports.yaml
      docker compose -f compose.yaml -f ports.yaml up

    Gives each service the port that it prefers or, where that is held or reserved by
    another, one that is its own from now on: the same project in the same directory
    gets the same ports again. What changed, and why, is said on stderr.
    """  # noqa: D415, D301 - a help text
    from resolver.reservations.assigning import assign as assigning  # noqa: PLC0415 - `-h` needs none of it
    from resolver.reservations.assigning.wishes import wishes  # noqa: PLC0415

    if rewrite and env_file is None:
        raise UsageError("--rewrite is about the file of --env-file: name one")
    if compose_files and form is not Format.COMPOSE:
        raise UsageError("--file is about --format compose")
    found = _project()
    wanted = wishes(services or [], found)
    say = _nothing if quiet else _say
    terms = _terms(wanted, found, ttl, project)
    terms = _with(terms, strict=strict, dry_run=dry_run, use_docker=not no_docker)
    file = _env_file(env_file, keep=bool(services), rewrites=rewrite)
    printed = _printer(form, wanted, compose_files or [], say)
    _notes(found, wanted, say)
    with opened(found.root) as store:
        assigned = assigning.assign(wanted, terms, store)
        if not (store.lasting or dry_run):
            say(["nothing keeps these ports for the project: the store cannot be written"])
        if terms.scope.startswith("engine:"):
            say(["what is no container on the engine's host is not seen from here"])
    _story(assigned, say if verbose else _nothing, say)
    if file is not None:
        say(file.preview(assigned) if dry_run else file.write(assigned, os.environ))
    print(printed(assigned, terms), end="")
    return 0


def _project() -> Project:
    """The project of the working directory, as it is without what an earlier call wrote."""
    from resolver.project.load import load  # noqa: PLC0415 - `-h` needs none of it
    from resolver.project.names import working_directory  # noqa: PLC0415
    from resolver.reservations.telling.envfile import without_block  # noqa: PLC0415

    return load(working_directory(), os.environ, without_block)


def _terms(wanted: Sequence[Wish], found: Project, ttl: str, project: str) -> Terms:
    from resolver.leases.scope import current as current_scope  # noqa: PLC0415
    from resolver.leases.words import seconds  # noqa: PLC0415
    from resolver.reservations.assigning.assign import Terms  # noqa: PLC0415
    from resolver.reservations.assigning.wishes import spoken_for  # noqa: PLC0415

    return Terms(
        scope=current_scope(os.environ),
        project=project or found.name,
        place=str(found.root),
        pool=found.pool,
        spoken_for=spoken_for(wanted, found),
        ttl_seconds=seconds(ttl),
    )


def _with(terms: Terms, *, strict: bool, dry_run: bool, use_docker: bool) -> Terms:
    from resolver.values import replace  # noqa: PLC0415

    return replace(terms, strict=strict, dry_run=dry_run, use_docker=use_docker)


def _env_file(path: str | None, *, keep: bool, rewrites: bool) -> EnvFile | None:
    """The file, which makes sense so far: what cannot be written is found out before anything."""
    if path is None:
        return None
    from pathlib import Path  # noqa: PLC0415 - seldom

    from resolver.cli.told import EnvFile  # noqa: PLC0415

    file = EnvFile(Path(path), keep=keep, rewrites=rewrites)
    file.check()
    return file


def _printer(
    form: Format,
    wanted: Sequence[Wish],
    files: Sequence[str],
    say: Callable[[Iterable[str]], None],
) -> Callable[[Sequence[Assigned], Terms], str]:
    """What makes the text for stdout; a compose file is read at once, before anything is done."""
    from resolver.reservations.telling import formats  # noqa: PLC0415

    if form is Format.COMPOSE:
        from resolver.cli.override import Override  # noqa: PLC0415 - seldom

        override = Override.read(files, wanted)
        say(override.notes)
        return lambda assigned, _: override.text(assigned)
    if form is Format.JSON:
        return lambda assigned, terms: formats.json_text(assigned, _about(terms))
    text = formats.env_text if form is Format.ENV else formats.shell_text
    return lambda assigned, _: text(formats.variables(assigned))


def _about(terms: Terms) -> dict[str, object]:
    from resolver import __version__  # noqa: PLC0415

    return {
        "tool": {"name": "ultra-ports", "version": __version__},
        "command": "assign",
        "dry_run": terms.dry_run,
        "exit_status": 0,
        "project": terms.project,
        "place": terms.place,
        "scope": terms.scope,
    }


def _notes(found: Project, wanted: Sequence[Wish], say: Callable[[Iterable[str]], None]) -> None:
    names = {wish.service for wish in wanted}
    said = (note for each in found.services if each.name in names for note in each.notes)
    say(dict.fromkeys((*found.notes, *said)))


def _story(
    assigned: Sequence[Assigned],
    mention: Callable[[Iterable[str]], None],
    say: Callable[[Iterable[str]], None],
) -> None:
    from resolver.reservations.assigning.assign import label  # noqa: PLC0415

    for each in assigned:
        say(each.said)
        if not each.said:
            mention([f"{each.wish.service}: {label(each.request)} ({each.source})"])


def _say(messages: Iterable[str]) -> None:
    from resolver.report.escape import escape  # noqa: PLC0415 - seldom

    for message in messages:
        print(fit(f"ultra-ports: {escape(message, 600)}"), file=sys.stderr)


def _nothing(_: Iterable[str]) -> None:
    """For those who asked for silence."""
