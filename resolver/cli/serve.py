"""`ultra-ports serve`: port status for browsers, probes and Prometheus."""

from __future__ import annotations

import os
import signal
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resolver import api
from resolver.cli import EXIT_INTERRUPTED, completing, say
from resolver.cli.options import PORT_HELP, DockerTimeout, Json, NoDocker, Quiet
from resolver.errors import UsageError
from resolver.health import exporter, server, tokens
from resolver.health.checking import check_targets
from resolver.health.shared_check import SharedCheck
from resolver.health.targets import targets
from resolver.json_text import Envelope, encode
from resolver.leases import outcomes

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from types import FrameType

    from resolver.health.exporter import Background
    from resolver.health.server import Server

EPILOG = """\b
Exit status:
  0    ended by SIGTERM
  1    somebody has the port to listen on
  2    usage, or a project file that makes no sense
  4    this user may not bind the port to listen on
  130  interrupted
/healthz has the status 200 where every service is healthy, else 503."""

DEFAULT_ADDRESS = "127.0.0.1:9485"
LONGEST_MESSAGE = 400
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LAST_SECONDS = 5.0  # a check that is under way may have started a command, which it has to end


class ServeEnvelope(Envelope, frozen=True, kw_only=True, tag="ultra-ports.serve/1"):
    """Where `serve` listens, once it does; `page` is the URL with the token that was made."""

    command: str = "serve"
    url: str
    address: str
    port: int
    page: str | None


def serve(
    ports: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SERVICE|PORT...]", help=PORT_HELP, autocompletion=completing.ports
        ),
    ] = None,
    listen: Annotated[
        str,
        typer.Option(metavar="ADDRESS:PORT", help="Where to listen; port 0 is any that is free."),
    ] = DEFAULT_ADDRESS,
    host_name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A name by which this server may be called, beside localhost and IP addresses.",
        ),
    ] = None,
    token_file: Annotated[
        str,
        typer.Option(metavar="FILE", help="Has a token: who sends it sees everything. Mode 600."),
    ] = "",
    make_token: Annotated[
        bool, typer.Option("--make-token", help="Make a token, and print the page's URL with it.")
    ] = False,
    no_docker: NoDocker = False,
    docker_timeout: DockerTimeout = 2.0,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Examples:

    \b
      ultra-ports serve                     every service of the project file
      ultra-ports serve api redis 5432
      ultra-ports serve --make-token        its URL with a token comes on stderr
      ultra-ports serve --json              says where it listens, as JSON
      ultra-ports serve --listen 0.0.0.0:9485 --host-name ports.example.com

    Shows whether services work: /healthz (JSON, status 200 or 503), /metrics (Prometheus), and / (a
    page that keeps itself up to date). It only looks. Ends on Ctrl-C or SIGTERM. Command lines,
    directories, reasons and advice are for those who send `Authorization: Bearer TOKEN`.
    """  # noqa: D415, D301 - a help text
    names, where = _names(host_name or ()), server.address(listen)
    token = _token(token_file, make=make_token)
    asked = targets(ports or (), os.environ)
    options = {"use_docker": not no_docker, "docker_timeout_seconds": docker_timeout}
    policy = api.policy({**options, "complete": False})
    background = exporter.Background(asked, os.environ, use_docker=not no_docker)
    check = SharedCheck(lambda run: check_targets(asked, policy, os.environ, run=run))
    answers = exporter.Exporter(check, background, token)
    with server.listening(where) as listener:
        for note in (*asked.notes, *_exposed(listener), *_uncounted()):
            if not quiet:
                _say(note)
        page = f"{_url(listener)}#token={token.decode()}" if make_token else ""
        if page and not json:
            _say(f"everything is shown at {page}")
        text = encode(_envelope(listener, page)) if json else _url(listener)
        print(text, flush=True)
        return _run(server.Server(listener, answers, names, _say), background)


def _envelope(listener: socket.socket, page: str) -> ServeEnvelope:
    address, port = listener.getsockname()[:2]
    return ServeEnvelope(url=_url(listener), address=address, port=port, page=page or None)


def _say(message: str) -> None:
    say([message])


def _token(file: str, *, make: bool) -> bytes:
    if file and make:
        raise UsageError("--token-file and --make-token are two tokens: one is wanted")
    if file:
        return tokens.read(Path(file))
    return tokens.made() if make else b""


def _names(wanted: Sequence[str]) -> frozenset[str]:
    for name in wanted:
        if not name or not name.isascii() or set(name) & set(" /:[]@"):
            raise UsageError(f"{name!a} is no name of a host", "a name alone, without its port")
    return frozenset(wanted)


def _exposed(listener: socket.socket) -> tuple[str, ...]:
    """The warning for whoever listens on more than loopback."""
    host = listener.getsockname()[0]
    if ip_address(host).is_loopback:
        return ()
    warning = (
        f"WARNING: whoever can reach {host} can read which programs and containers hold these "
        "ports; a token would cross the network in clear text"
    )
    return (warning,)


def _uncounted() -> tuple[str, ...]:
    """Has `resolve` count what it comes to from now on; else the reason why it does not."""
    try:
        outcomes.begin(os.environ)
    except OSError as error:
        return (f"what resolve comes to is not counted: {error.strerror or error}",)
    return ()


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _run(serving: Server, background: Background) -> int:
    """Serves until one of the signals comes that end us, and returns the exit status.

    What our caller made us ignore, as nohup(1) does, stays ignored. A second signal does not wait
    for what is under way.
    """
    heeded = [each for each in _STOPPING if signal.getsignal(each) is not signal.SIG_IGN]

    def end(number: int, _: FrameType | None) -> None:
        for each in heeded:
            signal.signal(each, signal.SIG_DFL)
        raise SystemExit(EXIT_INTERRUPTED if number == signal.SIGINT else 0)

    background.start()
    for number in heeded:
        signal.signal(number, end)
    try:
        serving.serve_forever()
    except SystemExit as ended:
        serving.exporter.check.interrupt(_LAST_SECONDS)
        background.end(_LAST_SECONDS)
        return int(ended.code or 0)
    return 0
