"""`ultra-ports portserver`: leases for programs that use python_portpicker."""

from __future__ import annotations

import os
import resource
import shlex
import signal
import socket
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resolver import portspec
from resolver.cli import output
from resolver.cli.options import Quiet
from resolver.cli.store import opened
from resolver.errors import UsageError
from resolver.host.clock import SystemClock
from resolver.leases import words
from resolver.leases.owner import here
from resolver.leases.scope import current
from resolver.model import Transport
from resolver.project import place
from resolver.project.names import working_directory
from resolver.reservations.lending.lending import Lending, Terms
from resolver.reservations.lending.listening import listening
from resolver.reservations.lending.portserver import Portserver

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE = "PORTSERVER_ADDRESS"  # what the clients of python_portpicker read
DEFAULT_ADDRESS = "@unittest-portserver"  # both are those of python_portpicker's own server
DEFAULT_POOL = "15000-24999"
_OWN_DESCRIPTORS = 192  # for everything but holds and processes: clients, the store, the loader
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def portserver(
    listen: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            envvar=VARIABLE,
            help="A path, or @NAME in Linux's abstract namespace.",
        ),
    ] = DEFAULT_ADDRESS,
    pool: Annotated[
        str, typer.Option(metavar="PORTS", help="The ports to lend: 8000-8999,9100.")
    ] = DEFAULT_POOL,
    ttl: Annotated[
        str, typer.Option(metavar="TIME", help="The longest that a port is lent: 90s, 10m, 8h, 2d.")
    ] = "",
    plain: Annotated[
        bool,
        typer.Option("--plain", help="Do not hold the ports: for servers without SO_REUSEADDR."),
    ] = False,
    quiet: Quiet = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Also say which process gets which port.")
    ] = False,
) -> int:
    """Examples:

    \b
      ultra-ports portserver &
      export PORTSERVER_ADDRESS=@unittest-portserver
      ultra-ports portserver --listen /run/ports.sock --pool 8000-8999

    Lends ports to programs that use python_portpicker, each for as long as its process
    lives. Ends on Ctrl-C or SIGTERM; who has a port by then keeps its lease.
    """  # noqa: D415, D301 - a help text
    address = _address(listen)
    spare = _spare_descriptors()
    terms = Terms(
        scope=current(os.environ),
        place=address,
        ports=_ports(pool),
        ttl_seconds=words.seconds(ttl) if ttl else None,
        holds=0 if plain else spare,
    )

    def say(message: str, *, aside: bool = False) -> None:
        if verbose or not (aside or quiet):
            output.say([message])

    clock = SystemClock()
    root = place.root(working_directory())
    with opened(root) as store, _stopping() as (stop, ended_by), listening(address) as listener:
        lending = Lending(terms, store, here(os.environ), clock, say)
        print(f"{VARIABLE}={shlex.quote(address)}", flush=True)
        say(f"{len(terms.ports)} ports are lent at {address}; the leases are in {store.where}")
        with closing(lending):
            Portserver(listener, lending, clock, say, most_watched=spare).serve(stop)
    return 130 if ended_by[-1:] == [signal.SIGINT] else 0


def _address(text: str) -> str:
    if text in {"", "@"}:
        raise UsageError(f"{text!a} is no address to listen on", "a path, or @NAME on Linux")
    return text if text.startswith("@") else str(Path(text).absolute())


def _ports(text: str) -> tuple[int, ...]:
    found = portspec.parse([text])
    if any(each.address or each.transport is not Transport.TCP for each in found):
        raise UsageError(f"{text!a} is no pool: ports and ranges alone, such as {DEFAULT_POOL}")
    return tuple(each.port for each in found)


def _spare_descriptors() -> int:
    """How many ports may be held, and as many processes watched; lifts this process's own limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (OSError, ValueError):  # macOS has a limit of its own below the hard one
            pass
    soft = wanted if soft == resource.RLIM_INFINITY else soft
    return max(0, (soft - _OWN_DESCRIPTORS) // 2)


@contextmanager
def _stopping() -> Iterator[tuple[socket.socket, list[int]]]:
    """A socket that becomes readable at a signal to end, and the list of these signals.

    What our caller made us ignore, as nohup(1) does, stays ignored.
    """
    ended_by: list[int] = []
    listened, told = socket.socketpair()
    told.settimeout(0)
    ours = [each for each in _STOPPING if signal.getsignal(each) is not signal.SIG_IGN]
    before = {each: signal.signal(each, lambda number, _: ended_by.append(number)) for each in ours}
    waker = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    try:
        yield listened, ended_by
    finally:
        signal.set_wakeup_fd(waker)
        for number, handler in before.items():
            signal.signal(number, handler)
        listened.close()
        told.close()
