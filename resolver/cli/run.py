"""`ultra-ports run`: a program on ports of its own, held until it takes them."""

from __future__ import annotations

import os
import re
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from resolver.cli import output
from resolver.cli.options import ProjectName
from resolver.errors import UsageError
from resolver.leases.owner import here, myself
from resolver.leases.scope import ENGINE
from resolver.leases.scope import current as current_scope
from resolver.leases.store import open_store
from resolver.project.names import current
from resolver.reservations.assigning.assign import Assigned, Terms, assign
from resolver.reservations.assigning.wishes import spoken_for, wishes
from resolver.reservations.holding.child import NotStartedError
from resolver.reservations.holding.running import Leases, Manner, Running
from resolver.reservations.telling.formats import variables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resolver.model import PortRequest
    from resolver.project.model import Project
    from resolver.protocols import LeaseStore

EPILOG = """\b
Exit status: that of CMD; 128+N where signal N ended it. Of ultra-ports itself:
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
        list[str] | None, typer.Option("--port", "-p", metavar="NAME[:PORT]", help=PORT_HELP)
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
    once: Annotated[bool, typer.Option("--once", help="Never start CMD a second time.")] = False,
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

    Runs CMD on ports of its own: leased for as long as it runs, and kept from other
    programs until it takes them. It finds them as API_PORT, API_HOST and API_URL, the
    first one also as PORT, and in its arguments {api} becomes the port.
    """  # noqa: D415, D301 - a help text
    if not command:
        raise UsageError("there is no command to run", "ultra-ports run --port api:8085 -- CMD")
    if plain and pass_socket:
        raise UsageError("--plain lets go of the ports, --pass-socket hands them over: choose one")

    mention = say if verbose else _nothing
    root = current()
    with closing(open_store(os.environ, root.root)) as store:
        assigned = _assign(ports or [], root, project or root.name, store, strict=strict)
        for line in (*root.notes, *store.warnings):
            say(line)
        for each in assigned:
            tell = mention if each.request == each.wish.preferred else say
            for line in each.said:
                tell(line)
        leases = Leases([a.lease for a in assigned if a.lease], store, say)
        services = {each.wish.service: each.request for each in assigned}
        manner = Manner(
            argv=tuple(filled(part, services) for part in command),
            environ={**os.environ, "PORT": str(assigned[0].request.port), **variables(assigned)},
            plain=plain,
            once=once,
            pass_sockets=pass_socket,
        )
        with leases, Running(services, say, mention) as running:
            running.hold()
            try:
                return running.run(manner, leases)
            except NotStartedError as error:
                say(str(error))
                return error.shell_status


def _assign(
    ports: Sequence[str], root: Project, name: str, store: LeaseStore, *, strict: bool
) -> tuple[Assigned, ...]:
    """A port for each service, leased to this process."""
    scope = current_scope(os.environ)
    if scope.startswith(f"{ENGINE}:"):  # CMD binds here, and the lease would be for there
        raise UsageError("the engine's host has its own ports: none of them can be held from here")
    wanted = wishes(ports, root)
    terms = Terms(
        scope=scope,
        project=name,
        place=str(root.root),
        pool=root.pool,
        spoken_for=spoken_for(wanted, root),
        ttl_seconds=None,
        owner=myself(here(os.environ)),
        held=True,
        strict=strict,
    )
    return assign(wanted, terms, store)


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


def say(text: str) -> None:
    """A line on stderr; nobody has to be there to read it."""
    with suppress(OSError):
        output.say([text])


def _nothing(_: str) -> None:
    """For those who did not ask."""
