"""Forwarders of desktop products and of rootless engines, as the table in `forwarders.py` has them.

Asked where no container that we know of publishes the port, before the general words of
`protected.py`; the end is the same: a forwarder is never signalled.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from resolver.forwarders import PRODUCTS
from resolver.host import trust
from resolver.host.podman import NAME
from resolver.model import Classification, Command, Confidence, Kind, Respawn
from resolver.programs import known_as

if TYPE_CHECKING:
    from resolver.forwarders import Product
    from resolver.model import Holder, Process, Snapshot
    from resolver.protocols import CommandRunner


def classify(holder: Holder, snapshot: Snapshot, _run: CommandRunner) -> Classification | None:
    """A forwarder of one of the products; None for docker-proxy and for what is no forwarder."""
    if holder.container is not None:
        return None
    for process in holder.processes:
        product = next((each for each in PRODUCTS if known_as(process, each.programs)), None)
        if product is not None:
            return _classification(holder, process, product, snapshot)
    return None


def _classification(
    holder: Holder, process: Process, product: Product, snapshot: Snapshot
) -> Classification:
    silent = snapshot.silent_engine
    reason = f"{process} holds this port for {product.name}: {product.behind}"
    values = {
        "port": holder.binding.port,
        "transport": holder.binding.transport,
        "uid": process.uid if process.uid is not None else "UID",
    }
    return Classification(
        holder,
        Kind.UNKNOWN if silent else Kind.FORWARDER,
        respawn=Respawn.UNKNOWN,
        confidence=Confidence.SUSPECTED,
        chain=(str(process), product.name, product.behind),
        evidence=(f"command line: {process.command_line}",) if process.command else (),
        reason=f"{reason}; which one: {silent.error}" if silent else reason,
        commands=tuple(
            _command(line.format(**values), process, snapshot) for line in product.commands
        ),
    )


def _command(line: str, process: Process, snapshot: Snapshot) -> Command:
    text, _, comment = line.partition("   # ")
    words = tuple(shlex.split(text))
    if words[0] != NAME:
        return Command(words, comment)
    for engine in snapshot.engines:
        if engine.client[-1:] == (NAME,) and engine.uid == process.uid:
            why = engine.error or f"{engine.endpoint} says that no container publishes it"
            return Command((*engine.client, *words[1:]), why)
    owner = trust.owner_account(process.uid)
    client = owner.prefix if owner else ()
    return Command((*client, *words), "podman is not in PATH here, or was not to be asked")
