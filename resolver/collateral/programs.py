"""What is lost with programs that are known by name (`known.py`)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.collateral.clients import names_of_clients
from resolver.collateral.known import KNOWN
from resolver.model import ANY_IPV4, ANY_IPV6, Collateral, Command, Degree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.collateral.family import Family
    from resolver.collateral.known import Known
    from resolver.model import CollateralKind, Process


def lost(family: Family, told: Iterable[CollateralKind] = ()) -> Iterator[Collateral]:
    """What is lost with programs that are known by name; evidence has `told` of those kinds."""
    told = set(told)
    for row in KNOWN:
        process = next(filter(row.is_, family.members), None)
        if process is None or row.kind in told:
            continue
        told.add(row.kind)
        clients = names_of_clients(family.group.clients) if row.clients else ""
        yield Collateral(
            row.kind,
            _degree(row, clients, family),
            f"{row.text}, with {clients}" if clients else row.text,
            f"{process}: {process.command_line}",
            _commands(row, process, family),
        )


def _commands(row: Known, process: Process, family: Family) -> tuple[Command, ...]:
    """What takes the port off it; none where nothing is known to."""
    if not row.command:
        return ()
    binding = family.holder.binding
    host = "" if binding.address in {ANY_IPV4, ANY_IPV6} else binding.address
    places = {"port": binding.port, "transport": binding.transport, "host": host}
    for name in re.compile(row.named).groupindex:
        places[name] = name.upper()
    texts = (process.command_line, *(e.target for e in family.group.descriptors))
    found = next(filter(None, (re.search(row.named, text) for text in texts)), None)
    places |= found.groupdict() if found else {}
    return (Command(tuple(word.format(**places) for word in row.command), row.comment),)


def _degree(row: Known, clients: str, family: Family) -> Degree:
    alone = (row.clients and not clients) or (row.others and not family.others)
    return Degree.MENTIONED if alone else Degree.REFUSED
