"""`ultra-ports assign`: ports for the services of a project, and those who depend on them told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from msgspec.structs import replace

from resolver.cli import completing, say
from resolver.cli.nearest import allocated
from resolver.cli.options import Json, NoDocker, ProjectName, Verbose
from resolver.cli.output import print_json
from resolver.cli.override import Override
from resolver.cli.store import opened
from resolver.errors import UsageError
from resolver.leases.duration import seconds
from resolver.leases.scope import current as current_scope
from resolver.project.load import load
from resolver.project.names import current as current_project
from resolver.project.names import working_directory
from resolver.reservations.export.block import without_block
from resolver.reservations.export.derived import derived
from resolver.reservations.export.env_file import EnvFile, disagreements
from resolver.reservations.export.variables import (
    AssignmentEnvelope,
    env_text,
    service_entry,
    shell_text,
    variables,
)
from resolver.reservations.requests import service_requests, spoken_for
from resolver.reservations.terms import Assigned, Terms
from resolver.settings import ASSIGNMENT_DAYS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from resolver.project.model import Project
    from resolver.reservations.requests import ServiceRequest

EPILOG = """\b
Exit status:
  0  every service has a port, which is leased to the project
  1  no port is left, or with --strict one is held or reserved by another
  2  usage, or a damaged file: nothing was touched
  130  interrupted
The order: what the service was assigned before, the preferred port, the one
used last, the project's pool, and then ports below the ephemeral range."""


def assign(
    services: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME[:PORT]...]",
            help="api:8085, api:8000-8100, api:127.0.0.1:8085, dns:53/udp, or api alone; "
            "without any: every service of the project file.",
            autocompletion=completing.services,
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail where a port is not to be had.")
    ] = False,
    reassign: Annotated[
        bool, typer.Option("--reassign", help="Begin anew, whatever was assigned before.")
    ] = False,
    env_files: Annotated[
        list[str] | None,
        typer.Option(
            "--env-file",
            metavar="FILE",
            help="Keep a block of variables in this file, in place of the project's env_files.",
        ),
    ] = None,
    form: Annotated[
        Literal["env", "json", "shell", "compose"],
        typer.Option("--format", help="What to print on stdout."),
    ] = "env",
    json: Json = False,
    compose_files: Annotated[
        list[str] | None,
        typer.Option("--file", "-f", metavar="FILE", help="A compose file, for --format compose."),
    ] = None,
    ttl: Annotated[
        str, typer.Option(metavar="TIME", help="How long the ports stay leased: 90s, 10m, 8h, 2d.")
    ] = f"{ASSIGNMENT_DAYS}d",
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
      ultra-ports assign --env-file .env          every service of the project
      eval "$(ultra-ports assign --format shell api:8085)"
      ultra-ports assign --format compose >ports.yaml
      docker compose -f compose.yaml -f ports.yaml up
      ultra-ports assign --reassign api:9000      move it

    Gives each service the port that it prefers or, where that is held or reserved by
    another, one that is its own from now on: the same project in the same directory
    gets the same ports again, whatever it prefers by then. What changed, and why, is said
    on stderr, and an .env that says something else is named.
    """  # noqa: D415, D301 - a help text
    if not (to_compose := form == "compose" and not json) and compose_files:
        raise UsageError("--file is about --format compose")
    found = load(working_directory(), os.environ, without_block)  # not what an earlier call wrote
    wanted = service_requests(services or [], found)
    tell = (lambda _: None) if quiet else say
    terms = Terms(
        scope=current_scope(os.environ),
        project=project or found.name,
        place=str(found.root),
        pool=found.pool,
        spoken_for=spoken_for(wanted, found),
        ttl_seconds=seconds(ttl),
        strict=strict,
        reassign=reassign,
        dry_run=dry_run,
        use_docker=not no_docker,
    )
    # What cannot be read or written is found out before anything is done.
    paths = _paths(found) if env_files is None else [*map(Path, env_files)]
    files = [EnvFile(path, keep=bool(services)) for path in dict.fromkeys(paths)]
    override = Override.read(compose_files or [], wanted) if to_compose else None
    tell(override.notes if override else ())
    tell(_notes(found, wanted))
    with opened(found.root) as store:
        assigned = allocated(wanted, terms, store)
        if not (store.lasting or dry_run):
            tell(["nothing keeps these ports for the project: the store cannot be written"])
        if terms.scope.startswith("engine:"):
            tell(["what is no container on the engine's host is not seen from here"])
    as_leased = replace(current_project(), name=terms.project)
    exports = derived(as_leased, assigned, os.environ, whole=not services)
    told = variables(assigned) | exports
    tell((*_story(assigned, verbose=verbose), *_disagreements(found, paths, assigned, told)))
    for file in files:
        tell(file.preview(assigned, told) if dry_run else file.write(assigned, told, os.environ))
    if override is not None:
        print(override.text(assigned), end="")
    elif json or form == "json":
        print_json(
            AssignmentEnvelope(
                dry_run=dry_run,
                project=terms.project,
                place=terms.place,
                scope=terms.scope,
                services=[*map(service_entry, assigned)],
                exports=exports,
                env_files=[*map(str, paths)],
            )
        )
    else:
        text = shell_text if form == "shell" else env_text
        print(text(told), end="")
    return 0


def _paths(found: Project) -> list[Path]:
    """The project's own environment files.

    Raises:
        UsageError: a link leads out of the project, or nowhere.
    """
    paths = []
    for name in found.env_files:
        path = found.root / name
        expected = f"{found.file}: env_files: expected a file below {found.root}"
        try:
            there = path.resolve()
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop, before Python 3.13
            raise UsageError(f"{expected}: {error}") from error
        if not there.is_relative_to(found.root.resolve()):
            raise UsageError(f"{expected}, and {name!a} leads to {there}")
        paths.append(path)
    return paths


def _disagreements(
    found: Project, written: Sequence[Path], assigned: Sequence[Assigned], told: Mapping[str, str]
) -> Iterator[str]:
    """What the project's .env says else, where this call does not write it."""
    path = found.root / ".env"
    if path not in {each.absolute() for each in written}:
        yield from disagreements(path, assigned, told)


def _notes(found: Project, wanted: Sequence[ServiceRequest]) -> Iterable[str]:
    names = {each.service for each in wanted}
    said = (note for each in found.services if each.name in names for note in each.notes)
    return dict.fromkeys((*found.notes, *said))


def _story(assigned: Sequence[Assigned], *, verbose: bool) -> Iterator[str]:
    for each in assigned:
        yield from each.notes
        if verbose and not each.notes:
            yield f"{each.wanted.service}: {each.request.typed} ({each.source})"
