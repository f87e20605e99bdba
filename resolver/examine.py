"""Examine: what each holder is, what keeps it up, and what would be lost with it. Read-only.

Half of the package, in modules and in the time that they take to load: it is for those whom a port
has a holder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.classify import classify
from resolver.collateral import with_collateral
from resolver.container_clients import with_clients
from resolver.managed import asked_once
from resolver.waiters import with_waiters

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.model import Classification, Holder, Snapshot
    from resolver.protocols import CommandRunner


def examine(
    holders: Iterable[Holder], snapshot: Snapshot, run: CommandRunner
) -> tuple[Classification, ...]:
    """One classification for each holder, in the same order, with all that speaks against it."""
    run = asked_once(run)
    found = classify(holders, snapshot, run)
    found = with_clients(found, snapshot, run)
    found = with_waiters(found, run)
    return with_collateral(found, snapshot)
