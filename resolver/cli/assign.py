"""`ultra-ports assign`: ports for the services of a project, and those who depend on them told."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resolver import __version__
from resolver.cli.options import NoDocker, ProjectName, Verbose
from resolver.cli.output import say
from resolver.cli.override import Override
from resolver.cli.store import opened
from resolver.errors import UsageError
from resolver.leases.duration import seconds
from resolver.leases.scope import current as current_scope
from resolver.project.load import load
from resolver.project.names import working_directory
from resolver.reservations.allocate import allocate
from resolver.reservations.export import variables as texts
from resolver.reservations.export.block import without_block
from resolver.reservations.export.env_file import EnvFile
from resolver.reservations.requests import service_requests, spoken_for
from resolver.reservations.terms import Assigned, Terms, label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from resolver.project.model import Project
    from resolver.reservations.requests import ServiceRequest

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
    form: Annotated[Format, typer.Option("--format", help="What to print on stdout.")] = Format.ENV,
    compose_files: Annotated[
        list[str] | None,
        typer.Option("--file", "-f", metavar="FILE", help="A compose file, for --format compose."),
    ] = None,
    ttl: Annotated[
        str, typer.Option(metavar="TIME", help="How long the ports stay leased: 90s, 10m, 8h, 2d.")
    ] = "8h",
    project: ProjectName = "",
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
      eval "$(ultra-ports assign --format shell api:8085)"
      ultra-ports assign --format compose >ports.yaml
      docker compose -f compose.yaml -f ports.yaml up

    Gives each service the port that it prefers or, where that is held or reserved by
    another, one that is its own from now on: the same project in the same directory
    gets the same ports again. What changed, and why, is said on stderr.
    """  # noqa: D415, D301 - a help text
    if compose_files and form is not Format.COMPOSE:
        raise UsageError("--file is about --format compose")
    found = load(working_directory(), os.environ, without_block)  # not what an earlier call wrote
    wanted = service_requests(services or [], found)
    tell = _nothing if quiet else say
    terms = Terms(
        scope=current_scope(os.environ),
        project=project or found.name,
        place=str(found.root),
        pool=found.pool,
        spoken_for=spoken_for(wanted, found),
        ttl_seconds=seconds(ttl),
        strict=strict,
        dry_run=dry_run,
        use_docker=not no_docker,
    )
    file = _env_file(env_file, keep=bool(services))
    printed = _printer(form, wanted, compose_files or [], tell)
    _notes(found, wanted, tell)
    with opened(found.root) as store:
        assigned = allocate(wanted, terms, store)
        if not (store.lasting or dry_run):
            tell(["nothing keeps these ports for the project: the store cannot be written"])
        if terms.scope.startswith("engine:"):
            tell(["what is no container on the engine's host is not seen from here"])
    _story(assigned, tell if verbose else _nothing, tell)
    if file is not None:
        tell(file.preview(assigned) if dry_run else file.write(assigned, os.environ))
    print(printed(assigned, terms), end="")
    return 0


def _env_file(path: str | None, *, keep: bool) -> EnvFile | None:
    """The file, which makes sense so far: what cannot be written is found out before anything."""
    if path is None:
        return None
    file = EnvFile(Path(path), keep=keep)
    file.check()
    return file


def _printer(
    form: Format,
    wanted: Sequence[ServiceRequest],
    files: Sequence[str],
    tell: Callable[[Iterable[str]], None],
) -> Callable[[Sequence[Assigned], Terms], str]:
    """What makes the text for stdout; a compose file is read at once, before anything is done."""
    if form is Format.COMPOSE:
        override = Override.read(files, wanted)
        tell(override.notes)
        return lambda assigned, _: override.text(assigned)
    if form is Format.JSON:
        return lambda assigned, terms: texts.json_text(assigned, _about(terms))
    text = texts.env_text if form is Format.ENV else texts.shell_text
    return lambda assigned, _: text(texts.variables(assigned))


def _about(terms: Terms) -> dict[str, object]:
    return {
        "tool": {"name": "ultra-ports", "version": __version__},
        "command": "assign",
        "dry_run": terms.dry_run,
        "exit_status": 0,
        "project": terms.project,
        "place": terms.place,
        "scope": terms.scope,
    }


def _notes(
    found: Project, wanted: Sequence[ServiceRequest], tell: Callable[[Iterable[str]], None]
) -> None:
    names = {each.service for each in wanted}
    said = (note for each in found.services if each.name in names for note in each.notes)
    tell(dict.fromkeys((*found.notes, *said)))


def _story(
    assigned: Sequence[Assigned],
    mention: Callable[[Iterable[str]], None],
    tell: Callable[[Iterable[str]], None],
) -> None:
    for each in assigned:
        tell(each.said)
        if not each.said:
            mention([f"{each.wanted.service}: {label(each.request)} ({each.source})"])


def _nothing(_: Iterable[str]) -> None:
    """For those who asked for silence."""
