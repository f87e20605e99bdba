"""`ultra-ports run`: becomes a program on ports of its own, held until it takes them."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack, suppress
from shutil import which
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import Struct

from resolver.cli import completing, fit, say
from resolver.cli.nearest import allocated
from resolver.cli.options import DryRun, ProjectName
from resolver.cli.output import print_json
from resolver.cli.store import opened
from resolver.errors import UltraPortsError, UsageError
from resolver.host.execute import execute
from resolver.leases import token_carriers
from resolver.leases.owner import here, myself
from resolver.leases.scope import ENGINE
from resolver.leases.scope import current as current_scope
from resolver.model import Command
from resolver.project.names import current
from resolver.reservations.allocate import give_back
from resolver.reservations.export.derived import derived
from resolver.reservations.export.variables import RunEnvelope, service_entry, variables
from resolver.reservations.hold import inherited, listen_variables, passed
from resolver.reservations.requests import service_requests, spoken_for
from resolver.reservations.terms import Assigned, Terms
from resolver.shell import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from resolver.model import PortRequest
    from resolver.project.model import Project
    from resolver.protocols import LeaseStore
    from resolver.reservations.hold import Hold

EPILOG = """\b
Exit status: that of CMD, which takes the place of ultra-ports. Its own:
  1    a port is taken, or reserved by another; CMD was not started
  2    usage
  126  CMD cannot be executed
  127  CMD was not found"""
CONTEXT_SETTINGS = {"allow_interspersed_args": False}

PORT_HELP = (
    "A service, and the port that it would like: api:8085, api:8000-8100, api:127.0.0.1:53/udp, "
    "or api alone. Without any: every service of the project file."
)


def run(
    command: Annotated[
        list[str] | None, typer.Argument(metavar="CMD [ARG...]", help="What to run.")
    ] = None,
    ports: Annotated[
        list[str] | None,
        typer.Option(
            "--port",
            "-p",
            metavar="NAME[:PORT]",
            help=PORT_HELP,
            autocompletion=completing.services,
        ),
    ] = None,
    project: ProjectName = "",
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail where a port is taken; take no other one.")
    ] = False,
    pass_socket: Annotated[
        bool, typer.Option("--pass-socket", help="Hand over listening sockets (LISTEN_FDS).")
    ] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="Let go of the ports just before CMD starts.")
    ] = False,
    dry_run: DryRun = False,
    json: Annotated[
        bool,
        typer.Option("--json", help="Where CMD is not started, print one JSON envelope on stdout."),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Also say what is held and let go, and when.")
    ] = False,
) -> int:
    """Examples:

    \b
      ultra-ports run --port api:8085 -- uvicorn app:app --port {api}
      ultra-ports run -p api -p web:3000 -- npm start
      ultra-ports run -p api:8085 --pass-socket -- uvicorn app:app --fd 3
      ultra-ports run -p api:8085 --plain -- ./server
      ultra-ports run -n -p api -- npm start     which ports it would get

    Becomes CMD, on ports of its own: leased for as long as it runs, and kept from other
    programs until it takes them. It finds them as API_PORT, API_HOST and API_URL, the
    first one also as PORT, and in its arguments {api} becomes the port. Where CMD says
    that the address is in use, it binds without SO_REUSEADDR, and needs --plain.
    """  # noqa: D415, D301 - a help text
    if not command:
        raise UsageError("there is no command to run", "ultra-ports run --port api:8085 -- CMD")
    if plain and pass_socket:
        raise UsageError("--plain lets go of the ports, --pass-socket hands them over: choose one")
    asked = _Asked(
        ports or [], current(), project, strict, dry_run, plain, pass_socket, verbose, json
    )
    _say(asked.root.notes)
    try:
        return _run(command, asked)
    except UsageError:
        raise
    except UltraPortsError as error:
        if json:
            refused = RunEnvelope(
                dry_run=dry_run,
                exit_status=error.status,
                refusal=str(error),
                program=command,
                services=[],
                variables={},
            )
            print_json(refused)
        raise


class _Asked(Struct, frozen=True):
    """What is asked for: services with their ports, for whom, and in which way they are given."""

    ports: Sequence[str]
    root: Project
    project: str
    strict: bool
    dry_run: bool
    plain: bool
    pass_socket: bool
    verbose: bool
    json: bool


def _run(command: Sequence[str], asked: _Asked) -> int:
    """Becomes the program, or says what it would get.

    Raises:
        UltraPortsError: it was not started.
    """
    root = asked.root
    with opened(root.root) as store, ExitStack() as held:
        assigned = _assign(asked, store)
        _say(_story(assigned, verbose=asked.verbose))
        for each in assigned:
            held.callback(give_back, each, store)
        services = {each.wanted.service: each.request for each in assigned}
        given = {"PORT": str(assigned[0].request.port), **variables(assigned)}
        given |= derived(root, assigned, os.environ, whole=False)
        program = [filled(part, services) for part in command]
        if asked.dry_run:
            _show(program, assigned, given, json=asked.json)
            return 0
        leases = [each.lease for each in assigned if each.lease]
        environ = {**os.environ, **given, **token_carriers.variable(leases)}
        holds = {each.wanted.service: each.hold for each in assigned if each.hold}
        if asked.pass_socket:
            environ |= listen_variables(holds)
            held.enter_context(passed([each.socket for each in holds.values()]))
        else:
            kept = _make_way(holds, everything=asked.plain, verbose=asked.verbose)
            held.enter_context(inherited(kept.values(), leases))
            if which(command[0], path=environ.get("PATH")):
                _say(_caution(command[0], kept, verbose=asked.verbose))
        return execute(program, environ)


def _show(
    program: list[str], assigned: Sequence[Assigned], given: dict[str, str], *, json: bool
) -> None:
    """What a dry run comes to."""
    if json:
        services = [*map(service_entry, assigned)]
        print_json(
            RunEnvelope(
                dry_run=True, exit_status=0, program=program, services=services, variables=given
            )
        )
        return
    for each in assigned:
        print(f"{each.wanted.service}: {each.request.typed} ({each.source})")
    print(fit(f"would run: {shown(Command(tuple(program)))}"))


def _assign(asked: _Asked, store: LeaseStore) -> tuple[Assigned, ...]:
    """A port for each service, leased to this process."""
    scope, root = current_scope(os.environ), asked.root
    if scope.startswith(f"{ENGINE}:"):  # CMD binds here, and the lease would be for there
        raise UsageError("the engine's host has its own ports: none of them can be held from here")
    requests = service_requests(asked.ports, root)
    terms = Terms(
        scope=scope,
        project=asked.project or root.name,
        place=str(root.root),
        pool=root.pool,
        spoken_for=spoken_for(requests, root),
        ttl_seconds=None,
        owner=myself(here(os.environ)),
        held=True,
        strict=asked.strict,
        dry_run=asked.dry_run,
    )
    return allocated(requests, terms, store)


def _story(assigned: Sequence[Assigned], *, verbose: bool) -> Iterator[str]:
    for each in assigned:
        if verbose or each.request != each.wanted.preferred:
            yield from each.notes


def _make_way(holds: Mapping[str, Hold], *, everything: bool, verbose: bool) -> dict[str, Hold]:
    """Lets go of what cannot be taken under a hold, and returns the rest."""
    kept = {}
    for name, hold in holds.items():
        if everything or not hold.admits_servers:
            hold.release()
            what = "released just before the start"
        else:
            kept[name] = hold
            what = f"held, though {hold.lingering}" if hold.lingering else "held"
        if verbose:
            _say([f"{name}: {hold.request} is {what}"])
    return kept


def _caution(program: str, kept: Mapping[str, Hold], *, verbose: bool) -> Iterator[str]:
    """Which ports it gets, and what explains the failure of one that nobody else tells then."""
    if not kept:
        return
    ports = {name: hold.request.typed for name, hold in kept.items()}
    if verbose:
        held = ", ".join(f"{name} {port}" for name, port in ports.items())
        yield f"held for {program}: {held}; if it finds the address in use, it needs --plain"
    else:
        got = ", ".join(f"{name} gets {port}" for name, port in ports.items())
        yield f"{got} (if the address is in use: --plain)"


def _say(lines: Iterable[str]) -> None:
    """Lines on stderr; nobody has to be there to read them."""
    with suppress(OSError):
        say(lines)


def filled(argument: str, services: Mapping[str, PortRequest]) -> str:
    """The argument with the port in the place of each `{service}`.

    Every other brace is the program's own: `{}`, `{"a": 1}`, `{{api}}` and `${api}` stay.
    """
    names = "|".join(map(re.escape, services))
    return re.sub(
        rf"\{{\{{(?:{names})\}}\}}|(?<!\$)\{{({names})\}}",
        lambda match: str(services[match[1]].port) if match[1] else match[0],
        argument,
    )
