"""`ultra-ports` alone, on a terminal: what is held, and the question what of it to free."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer
from msgspec.structs import replace

from resolver import api
from resolver.cli import options
from resolver.cli.output import show
from resolver.model import Whose

if TYPE_CHECKING:
    from resolver.model import PortReport


def chosen() -> list[str]:
    """The command line that frees what was chosen below the listing.

    Raises:
        typer.Exit: nothing was.
    """
    found = api.who(**options.policy())
    show(
        replace(found, ports=tuple(sorted(found.ports, key=_is_strange))),
        json=False,
        quiet=False,
        verbose=False,
        lists=True,
    )
    if not found.ports:
        raise typer.Exit
    print("free which? (a PORT, or several; Enter: none) ", end="", file=sys.stderr, flush=True)
    words = sys.stdin.readline().split()
    if not words:
        raise typer.Exit
    return ["resolve", *words]


def _is_strange(port: PortReport) -> bool:
    """Whether nothing on it belongs to this checkout: what does comes first."""
    return all(each.classification.ownership.whose is not Whose.MINE for each in port.holders)
