"""`ultra-ports reserve`, `release` and `reservations`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from msgspec.structs import replace

from resolver import portspec
from resolver.cli import completing, fit, say
from resolver.cli.keeping import keep
from resolver.cli.options import Json, ProjectName
from resolver.cli.output import print_json, style
from resolver.cli.store import opened
from resolver.errors import StoreError, UsageError
from resolver.gather.processes import own_line
from resolver.leases import owner as owners
from resolver.leases import rules
from resolver.leases import scope as scopes
from resolver.leases.assigned import with_leases
from resolver.leases.duration import seconds
from resolver.project.location import root
from resolver.project.names import current as current_project
from resolver.project.names import working_directory
from resolver.report.lease import whose
from resolver.report.reservations import ReservationsEnvelope, StoreEntry, plain, table
from resolver.reservations import release as releasing
from resolver.reservations.allocate import give_back
from resolver.reservations.allocate import reserve as reserve_port
from resolver.reservations.terms import Terms
from resolver.settings import RESERVATION_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.leases.model import Lease
    from resolver.leases.owner import Here
    from resolver.model import PortRequest
    from resolver.project.model import Project
    from resolver.protocols import LeaseStore

EPILOG = """\b
Exit status:
  0  done
  1  it is somebody else's, or the store cannot be reached or written:
     nothing was changed
  2  usage: nothing was changed
  4  this user may not bind the port, so it cannot be proved free
  5  the engine did not answer (--scope engine)
  130  interrupted"""

Scope = Annotated[
    str,
    typer.Option(
        "--scope",
        metavar="machine|engine",
        help="Whose ports: this network namespace's, or those the engine's host publishes.",
    ),
]


def reserve(
    service: Annotated[
        str,
        typer.Argument(
            metavar="NAME[:PORT]",
            help="The service (api, or api:8085 in place of `api 8085`).",
            autocompletion=completing.services,
        ),
    ],
    port: Annotated[
        str | None,
        typer.Argument(metavar="[PORT|FIRST-LAST]", help="Else the project's port of the service."),
    ] = None,
    ttl: Annotated[
        str | None, typer.Option(metavar="TIME", help="90s, 10m, 8h, 2d; 8h where nobody owns it.")
    ] = None,
    hold: Annotated[
        bool, typer.Option("--hold", help="Stay, and keep the port in the kernel meanwhile.")
    ] = False,
    owner: Annotated[
        int | None, typer.Option("--for", metavar="PID", help="It ends with this process, as $$.")
    ] = None,
    project: ProjectName = "",
    scope: Scope = "",
    json: Json = False,
) -> int:
    """Examples:

    \b
      ultra-ports reserve api             the project's port of api, for 8 hours
      ultra-ports reserve api 8085 --ttl 2d
      ultra-ports reserve api:8085        the same as api 8085
      ultra-ports reserve api 8000-8100   the first of them that is to be had
      ultra-ports reserve api --for $$    until this shell ends
      ultra-ports reserve api --hold      keeps it from others, until Ctrl-C

    Prints the port. It is reserved where it can be bound now, or where the project's
    own server has it. Exits 1 where it is somebody else's, and says whose.
    """  # noqa: D415, D301 - a help text
    if hold and owner is not None:
        raise UsageError("--hold and --for both say how long: only one of them is wanted")
    where = owners.here(os.environ)
    found = current_project()
    service, port = _named(service, port)
    if project and not project.strip():
        raise UsageError("--project wants a name")
    as_leased = found if project or scope else with_leases(found, os.environ)
    requests = _requests(service, port, as_leased)
    terms = Terms(
        scope=scopes.current(os.environ, scope),
        project=project or found.name,
        place=str(found.root),
        owner=owners.owner_of(owner, where)
        if owner is not None
        else owners.myself(where)
        if hold
        else None,
        held=hold,
        strict=True,
        beside=True,
    )
    if hold and terms.scope.startswith(f"{scopes.ENGINE}:"):
        raise UsageError(
            "--hold keeps a port of this network namespace, not one of an engine's host"
        )
    terms = replace(terms, ttl_seconds=_ttl(ttl, terms, where))
    say(found.notes)
    with opened(found.root) as store:
        if not store.lasting and not hold:
            raise StoreError("not reserved: it would be forgotten at once", "--hold keeps it")
        if ttl is None:
            terms = _no_shorter(terms, service, requests, store)
        reserved = reserve_port(service, requests, terms, store)
        lease = cast("Lease", reserved.lease)
        try:
            _tell(lease, store, json=json)
        except OSError:  # a full disk, or a reader that has left: nobody knows of the port
            give_back(reserved, store)
            raise
        _say_of(lease, f"is reserved for {whose(lease)}: {reserved.proof}")
        if reserved.hold is None:
            return 0
        with reserved.hold:
            return keep(lease, store, terms.ttl_seconds)


def release(
    wanted: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME|PORT...]",
            help="What is to be released.",
            autocompletion=completing.leases,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Everything that the project has reserved.")
    ] = False,
    place: Annotated[
        str | None,
        typer.Option(
            "--place", metavar="DIR", help="Everything of the checkout in DIR, there or deleted."
        ),
    ] = None,
    stale: Annotated[
        bool, typer.Option("--stale", help="Everything of checkouts that were deleted.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also another project's, and a living process's own.")
    ] = False,
    project: ProjectName = "",
    scope: Scope = "",
    json: Json = False,
) -> int:
    """Examples:

    \b
      ultra-ports release api
      ultra-ports release 8085 9000/udp
      ultra-ports release --all
      ultra-ports release --place ../fix   before or after git worktree remove
      ultra-ports release --stale

    Ends reservations of this project. What holds a port is not touched; with --place and
    --stale, what a living process has stays until that ends.
    """  # noqa: D415, D301 - a help text
    if [bool(wanted), everything, place is not None, stale].count(True) != 1:
        raise UsageError(
            "one of NAME or PORT, --all, --place and --stale is wanted", "ultra-ports release -h"
        )
    found = current_project()
    caller = releasing.Caller(
        project or found.name, str(found.root), own_line(), named=bool(project), forced=force
    )
    where = scopes.current(os.environ, scope)
    what = _wanted(wanted or [], everything=everything)
    with opened(found.root) as store:
        _check_readable(store)
        leases = store.leases(where)
        missing: tuple[str, ...] = ()
        if stale or place is not None:
            left = _of_checkouts(leases, place)
            chosen, kept = releasing.apart(left, caller)
            say([f"{each}, and stays so" for each in kept])
        else:
            chosen, missing = releasing.chosen(what, leases, caller)
        ended = _lastingly(store, store.release(chosen))
        if json:
            _print_json("release", store, ended)
    for lease in ended:
        _say_of(lease, f"is no longer reserved for {lease.service}")
    say([f"{each} was not reserved" for each in missing])
    return 0


def reservations(
    everywhere: Annotated[
        bool, typer.Option("--all", help="Those of every scope, not of this machine's ports alone.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Forget those that are over, and say which.")
    ] = False,
    project: ProjectName = "",
    scope: Scope = "",
    json: Json = False,
) -> int:
    """Examples:

    \b
      ultra-ports reservations
      ultra-ports reservations --project shop --json
      ultra-ports reservations --prune

    Lists what is reserved. What has expired, or whose owner has ended, is not.
    """  # noqa: D415, D301 - a help text
    with opened(root(working_directory())) as store:
        _check_readable(store)
        over = _lastingly(store, store.prune()) if prune else ()
        for lease in over:
            _say_of(lease, f"is forgotten: it was reserved for {whose(lease)}")
        leases = store.leases(None if everywhere else scopes.current(os.environ, scope))
        leases = tuple(each for each in leases if project in {"", each.project})
        if json:
            _print_json("reservations", store, leases)
        else:
            _print_table(leases, everywhere=everywhere)
    return 0


def _named(service: str, port: str | None) -> tuple[str, str | None]:
    """The service and its port, be they one argument or two.

    Raises:
        UsageError: that is no name, or there are two ports.
    """
    name, colon, behind = service.partition(":")
    if not portspec.is_name(name):
        raise UsageError(f"{name[:60]!a} is no name for a service (letters, digits, - and _)")
    if colon and port is not None:
        raise UsageError(f"{service[:60]!a} has a PORT already, and {port[:60]!a} is another")
    return name, behind if colon else port


def _requests(service: str, port: str | None, found: Project) -> tuple[PortRequest, ...]:
    """The ports that are asked for: those given, the service's own, or the project's pool."""
    if port is not None:
        return portspec.parse([port])
    known = any(each.name == service for each in found.services)
    if not known and found.pool:
        return portspec.parse([f"{first}-{last}" for first, last in found.pool])
    return (found.service(service).request,)


def _ttl(wanted: str | None, terms: Terms, where: Here) -> float | None:
    """None: as long as the owner lives, where there is one, and others can tell."""
    if wanted is not None:
        return seconds(wanted)
    nobody_renews = terms.owner is None or rules.bounded(terms.scope, where)
    return RESERVATION_SECONDS if nobody_renews and not terms.held else None


def _no_shorter(
    terms: Terms, service: str, requests: Sequence[PortRequest], store: LeaseStore
) -> Terms:
    """For at least as long as the service has that port already, as by `assign`."""
    if terms.owner is not None or terms.ttl_seconds is None:
        return terms
    mine = (terms.project, terms.place, service, None)
    lasts = (
        lease.expires_at - time.time()
        for lease in store.leases(terms.scope)
        if (lease.project, lease.place, lease.service, lease.owner) == mine
        and [lease.request] == [*requests]
        and lease.expires_at is not None
    )
    return replace(terms, ttl_seconds=max(terms.ttl_seconds, *lasts, 0))


def _wanted(arguments: Sequence[str], *, everything: bool) -> releasing.Selection:
    words = [word for argument in arguments for word in portspec.items(argument)]
    names = tuple(word for word in words if portspec.is_name(word))
    ports = portspec.parse([word for word in words if not portspec.is_name(word)])
    return releasing.Selection(names, ports, everything)


def _of_checkouts(leases: Sequence[Lease], place: str | None) -> tuple[Lease, ...]:
    """Those of the checkout in this directory; None: of all that were deleted."""
    if place is not None:
        try:
            return releasing.of_place(leases, str(Path(place).resolve()))
        except (
            OSError,
            RuntimeError,
        ) as error:  # RuntimeError: a loop of links, before Python 3.13
            raise UsageError(f"{place[:60]!a} cannot be looked at: {error}") from error
    where = owners.here(os.environ)
    return tuple(each for each in leases if owners.is_deserted(each.place, each.scope, where))


def _check_readable(store: LeaseStore) -> None:
    """Makes sure that what others have reserved is known.

    Raises:
        StoreError: it cannot be read.
    """
    if unreadable := getattr(store, "unreadable", ""):
        raise StoreError(unreadable)


def _lastingly(store: LeaseStore, ended: tuple[Lease, ...]) -> tuple[Lease, ...]:
    """The leases that were ended, if others will see that they were.

    Raises:
        StoreError: the ledger can only be read, and still has them.
    """
    if ended and not store.lasting:
        raise StoreError(f"{ended[0].request} stays reserved: the ledger can only be read")
    return ended


def _say_of(lease: Lease, what: str) -> None:
    say([f"{lease.request} {what}"])


def _tell(lease: Lease, store: LeaseStore, *, json: bool) -> None:
    """The port on stdout, at once: whoever reads it may be waiting."""
    if json:
        _print_json("reserve", store, (lease,))
    else:
        print(lease.port)
    sys.stdout.flush()


def _print_json(command: str, store: LeaseStore, leases: Sequence[Lease]) -> None:
    where = StoreEntry(store.where, store.lasting)
    print_json(
        ReservationsEnvelope(command=command, store=where, reservations=[*map(plain, leases)])
    )


def _print_table(leases: Sequence[Lease], *, everywhere: bool) -> None:
    if not leases:
        say(["nothing is reserved"])
        return
    where = owners.here(os.environ)
    names = {lease.owner: owners.name_of(lease.owner, where) for lease in leases if lease.owner}
    print(fit(table(leases, names, scopes=everywhere, width=style().width)))
