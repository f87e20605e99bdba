"""`ultra-ports preflight`, and what `--compose` makes of `resolve`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resolver.cli.answers import STREAM, command_line
from resolver.cli.compose_options import (
    COMPOSE_EPILOG,
    Files,
    Profiles,
    ProjectName,
    arguments_of,
    resolving,
)
from resolver.cli.options import DockerTimeout, Json, NoDocker, Quiet, Verbose
from resolver.cli.output import fit, show
from resolver.cli.progress import Terminal
from resolver.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resolver.compose.findings import Preflight
    from resolver.compose.model import ComposeArguments
    from resolver.compose.preflight import Wish
    from resolver.project.names import Wanted

EPILOG = COMPOSE_EPILOG


def preflight(
    file: Files = None,
    profile: Profiles = None,
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
    arguments = arguments_of(file, profile, project)
    options = engine_options(no_docker=no_docker, docker_timeout=docker_timeout)
    found = look(wish(arguments), options)
    tell(found, quiet=quiet, verbose=verbose)
    if json:
        from resolver.report.preflight import envelope  # noqa: PLC0415 - only for --json

        print_json(envelope(found))
    elif not quiet:
        from resolver.report.preflight import text  # noqa: PLC0415

        following = resolving(arguments) if found.taken and not found.hopeless else ""
        print(fit(text(found, following)))
    return int(found.exit_status)


def resolve(  # noqa: D417 - the options are those of `resolve`
    arguments: ComposeArguments,
    ports: list[str],
    *,
    everything: bool = False,
    plan_out: str | None = None,
    interactive: bool = False,
    json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
    **options: Any,  # noqa: ANN401 - fields of `Policy`
) -> int:
    """Frees what outsiders hold of a compose project's ports, and the given ones; prints it.

    Args:
        arguments: name the project.
        ports: further ports.
    """
    from resolver.compose import freeing  # noqa: PLC0415 - `-h` needs none of it

    if plan_out == STREAM and json:
        raise UsageError("--json and --plan-out - both want stdout")
    extra = _extra(ports, everything=everything)
    options["again"] = command_line()
    found = look(wish(arguments), options)
    terminal = Terminal(asks=interactive)
    try:
        if plan_out is None:
            report = freeing.free(found, terminal, extra.requests, **options)
        else:
            report, text = freeing.plan(found, extra.requests, **options)
            from resolver.cli.files import save  # noqa: PLC0415 - seldom

            if text:
                save(text, plan_out)
    except KeyboardInterrupt:
        terminal.interrupted()
        return 130
    silent = quiet or plan_out == STREAM
    show(extra.on(report), json=json, quiet=silent, verbose=verbose)
    return int(report.exit_status)


def _extra(ports: list[str], *, everything: bool) -> Wanted:
    from resolver.leases import assigned  # noqa: PLC0415 - `-h` needs none of it
    from resolver.project import names  # noqa: PLC0415

    if any(not port for port in ports):
        raise UsageError("'' is not a port: it is empty")
    return names.wanted((*ports, *(names.everything() if everything else ())), assigned.current)


def engine_options(*, no_docker: bool, docker_timeout: float) -> dict[str, Any]:
    """The fields of `Policy` that a mere look needs."""
    return {
        "use_docker": not no_docker,
        "docker_timeout_seconds": docker_timeout,
        "again": command_line(),
    }


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


def look(wanted: Wish, options: Mapping[str, Any]) -> Preflight:
    """The preflight, with those of the options that a look knows."""
    from resolver.compose.preflight import preflight as looked  # noqa: PLC0415

    return looked(wanted, **options)


def tell(found: Preflight, *, quiet: bool, verbose: bool) -> None:
    """The notes of a preflight, on stderr."""
    from resolver.report.escape import escape  # noqa: PLC0415

    notes = (*found.notes, *(found.report.asides if verbose else ()))
    for note in () if quiet and found.exit_status == 0 else dict.fromkeys(notes):
        print(fit(f"ultra-ports: {escape(note)}"), file=sys.stderr)


def print_json(envelope: dict[str, Any]) -> None:
    """One envelope on stdout."""
    import json  # noqa: PLC0415 - only for --json

    print(json.dumps(envelope, indent=2))
