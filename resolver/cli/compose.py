"""`ultra-ports preflight`, and what `--compose` makes of `resolve`."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from msgspec.structs import replace

from resolver.cli import fit, options, say
from resolver.cli.nearest import with_nearest
from resolver.cli.options import (
    DEFAULT,
    ComposeProject,
    DockerTimeout,
    Files,
    Json,
    NoDocker,
    Profiles,
    Quiet,
    Verbose,
)
from resolver.cli.output import print_json, style
from resolver.compose import freeing
from resolver.compose.command import ComposeCommand
from resolver.compose.model import ComposeArguments
from resolver.compose.preflight import preflight as look
from resolver.errors import UsageError
from resolver.leases import assigned
from resolver.model import AdviseStep, ExitStatus
from resolver.project import names
from resolver.project.names import working_directory
from resolver.project.reading import read
from resolver.report.preflight import HELD, envelope, github_annotations, text
from resolver.shell import shown

if TYPE_CHECKING:
    from pathlib import Path

    from resolver.cli.progress import Terminal
    from resolver.compose.findings import Preflight
    from resolver.model import Report

EPILOG = """\b
Exit status:
  0  preflight: nothing is in the way; up: each published port answers
  1  up: compose failed, or a port does not answer: which, and why
  2  usage, no compose command, no compose file, or one that makes no sense:
     nothing was touched
  3  conflicts: nothing was started, the right command is printed
  4  a port is held by somebody who is hidden from this user
  5  undecidable: the engine did not answer
  130  interrupted"""


def preflight(
    file: Files = None,
    profile: Profiles = None,
    project: ComposeProject = "",
    form: Annotated[
        Literal["text", "github"],
        typer.Option("--format", help="github: findings annotate a workflow."),
    ] = "text",
    json: Json = False,
    no_docker: NoDocker = False,
    docker_timeout: DockerTimeout = DEFAULT.docker_timeout_seconds,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Examples:

    \b
      ultra-ports preflight
      ultra-ports preflight -f compose.yml -f compose.dev.yml --profile debug
      ultra-ports preflight --json
      ultra-ports preflight --format github

    Says what the compose project would publish, and what would be in its way.
    Changes nothing.
    """  # noqa: D415, D301 - a help text
    arguments = arguments_of(file, profile, project)
    policy = options.policy(no_docker=no_docker, docker_timeout=docker_timeout)
    found = look(ComposeCommand(arguments), hint=resolving(arguments), **policy)
    if json and form != "text":
        raise UsageError("--json and --format contradict each other")
    if json or not quiet:
        found = beside(found, use_docker=not no_docker)
    tell(found, quiet=quiet, verbose=verbose)
    if json:
        print_json(envelope(found))
    elif form == "github":
        texts = {file: _text(file) for file in found.project.files}
        print(github_annotations(found, working_directory(), texts))
    elif not quiet:
        print(fit(text(found, style(verbose=verbose), _following(found, arguments))))
    return int(found.exit_status)


def beside(found: Preflight, *, use_docker: bool) -> Preflight:
    """The same, with a free port beside each that is in somebody else's hands."""
    conflicts = (each for each in found.findings if each.code in HELD and not found.away)
    held = {request for each in conflicts for request in each.requests}
    if not held:
        return found
    report = with_nearest(found.report, held, use_docker=use_docker, runs=False)
    return replace(found, report=report)


def _text(file: Path) -> str:
    """A compose file, to look for lines in; empty where it cannot be read, as from stdin."""
    try:
        return read(file, "replace")
    except UsageError:
        return ""


def _following(found: Preflight, arguments: ComposeArguments) -> str:
    """The next command: what frees the ports, or tells more, with the rights that it takes."""
    if found.unfreeable:
        return ""
    if os.geteuid() and found.exit_status in {ExitStatus.HIDDEN, ExitStatus.UNDECIDED}:
        _, *words = shlex.split(resolving(arguments))
        return shlex.join(("sudo", options.program(), *words))
    reports = [port for port in found.report.ports if port.request in found.taken]
    steps = dict.fromkeys(each.step for port in reports for each in port.holders)
    first, *others = [*steps, None]
    if isinstance(first, AdviseStep) and first.commands and others == [None]:
        return shown(first.commands[0])
    return resolving(arguments) if found.taken else ""


def resolve_project(
    arguments: ComposeArguments,
    ports: list[str],
    terminal: Terminal,
    policy: dict[str, Any],
    *,
    plans: bool,
) -> tuple[Report, str]:
    """Frees what outsiders hold of a compose project's ports, and the given ones.

    Args:
        arguments: name the project.
        ports: further ports.
        terminal: is asked and told.
        policy: fields of `Policy`.
        plans: touches nothing, and makes a plan file.

    Returns:
        The report, and the text of the plan file, where there is one.
    """
    extra = names.wanted(ports, assigned.current, to_end=True)
    found = look(ComposeCommand(arguments), hint=resolving(arguments), **policy)
    if plans:
        report, plan = freeing.plan(found, extra.requests, **policy)
    else:
        report, plan = freeing.free(found, terminal, extra.requests, **policy), ""
    return extra.on(report), plan


def tell(found: Preflight, *, quiet: bool, verbose: bool) -> None:
    """The notes of a preflight, on stderr."""
    if not (quiet and found.exit_status == 0):
        say(dict.fromkeys((*found.notes, *(found.report.verbose_notes if verbose else ()))))


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
