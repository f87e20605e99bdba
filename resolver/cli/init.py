"""`ultra-ports init`: a project file, from the compose file or from what listens now."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver import api, portspec
from resolver.cli import say
from resolver.cli.options import DryRun, Json
from resolver.cli.output import print_json
from resolver.compose import files
from resolver.compose.command import ComposeCommand
from resolver.compose.model import ComposeArguments
from resolver.errors import UsageError
from resolver.json_text import Envelope
from resolver.model import PortRequest, Transport, Whose
from resolver.project import file
from resolver.project.location import root
from resolver.project.names import working_directory
from resolver.project.nearest_file import OWN_NAME
from resolver.report.escape import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from resolver.model import Report

EPILOG = """\b
Exit status:
  0  written, or printed with -n
  2  there is a project file already, or nothing to make one of"""


class NamedPort(Struct, frozen=True):
    """One service of the new file."""

    name: str
    request: PortRequest


class InitEnvelope(Envelope, frozen=True, kw_only=True, tag="ultra-ports.init/1"):
    """The answer of `init`."""

    command: str = "init"
    dry_run: bool
    exit_status: int = 0
    file: str
    source: str
    services: list[NamedPort]


def init(dry_run: DryRun = False, json: Json = False) -> int:
    """Examples:

    \b
      ultra-ports init      from the compose file, else from what listens now
      ultra-ports init -n   print it, and write nothing

    Writes ultra-ports.toml, which names the services of this checkout and their ports.
    """  # noqa: D415, D301 - a help text
    folder = working_directory()
    found, notes = file.find(folder)
    say(notes)
    if found is not None:
        raise UsageError(f"there is a project file already: {found.path}")
    source, lines = _from_compose() if files.find(()) else _from_listeners(api.who())
    if not lines:
        raise UsageError(
            f"nothing to make a project file of: {source} has no port",
            "ultra-ports.toml can be written by hand: [services] api = 8085",
        )
    path = root(folder) / OWN_NAME
    text = "\n".join((f"# made of {source} by `ultra-ports init`", "[services]", *_toml(lines), ""))
    if not dry_run:
        _write(path, text)
        say([f"{path} names {', '.join(each.name for each in lines)} (from {source})"])
    if json:
        print_json(InitEnvelope(dry_run=dry_run, file=str(path), source=source, services=[*lines]))
    elif dry_run:
        print(text, end="")
    return 0


def _from_compose() -> tuple[str, list[NamedPort]]:
    project = ComposeCommand(ComposeArguments()).project()
    name = escape(project.files[0].name)
    return name, [NamedPort(each.name, each.request) for each in project.as_services()]


def _from_listeners(report: Report) -> tuple[str, list[NamedPort]]:
    """A service for each port that this checkout's own processes hold."""
    found: dict[str, PortRequest] = {}
    for port in report.ports:
        mine = [
            each.holder
            for each in port.holders
            if each.classification.ownership.whose is Whose.MINE
        ]
        if mine and mine[0].master:
            name = re.sub(r"[^A-Za-z0-9_-]+", "-", mine[0].master.name, flags=re.ASCII).strip("-")
            name = name if portspec.is_name(name) else "server"
            name = f"{name}-{port.request.port}" if name in found else name
            found[name] = port.request
    return "what listens now in this checkout", [NamedPort(*each) for each in found.items()]


def _toml(lines: Iterable[NamedPort]) -> Iterator[str]:
    for name, request in ((each.name, each.request) for each in lines):
        more = f', address = "{request.address}"' if request.address else ""
        more += ', protocol = "udp"' if request.transport is Transport.UDP else ""
        yield f"{name} = {{ port = {request.port}{more} }}" if more else f"{name} = {request.port}"


def _write(path: Path, text: str) -> None:
    """Makes the file; one that is there, and a link, stays as it is."""
    try:
        with path.open("x", encoding="utf-8") as new:
            new.write(text)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
