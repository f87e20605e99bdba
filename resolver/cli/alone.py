"""`ultra-ports` alone, on a terminal: what is held, and the question what of it to free."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from msgspec.structs import replace

from resolver import api
from resolver.cli import options, say
from resolver.cli.output import NOTHING_HELD, ask, show
from resolver.errors import UsageError
from resolver.leases import assigned
from resolver.model import Whose
from resolver.project import names

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
        nothing=NOTHING_HELD,
    )
    if not found.ports:
        raise typer.Exit
    while words := ask("free which? (a PORT, or several; Enter: none)").split():
        try:
            ports = [each for each in words if not each.startswith("-")]
            names.wanted(ports, assigned.current, to_end=True)
        except UsageError as error:
            say([f"{error} ({error.hint})" if error.hint else str(error)])
        else:
            return ["resolve", *words]
    raise typer.Exit


def _is_strange(port: PortReport) -> bool:
    """Whether nothing on it belongs to this checkout: what does comes first."""
    return all(each.classification.ownership.whose is not Whose.MINE for each in port.holders)
