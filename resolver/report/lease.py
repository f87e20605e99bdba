"""A lease in words."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resolver.leases.model import Claim, Lease

_DAY = "%Y-%m-%d %H:%M:%S"


def whose(lease: Lease) -> str:
    """Whose it is: `api of project shop (/srv/shop) by process 4711 until 2026-11-23 08:00:00`."""
    by = f" by process {lease.owner.pid}" if lease.owner else ""
    until = "" if lease.expires_at is None else f" until {when(lease.expires_at)}"
    return f"{service(lease)}{by}{until}"


def service(of: Lease | Claim) -> str:
    """The service with its project and the project's place."""
    place = f" ({of.place})" if of.place else ""
    return f"{of.service} of project {of.project}{place}"


def when(epoch_seconds: float | None) -> str:
    """Local time of the day, to the second; `never` for None."""
    if epoch_seconds is None:
        return "never"
    try:
        return time.strftime(_DAY, time.localtime(epoch_seconds))
    except (OverflowError, OSError, ValueError):  # a time that no calendar has
        return "in the far future"
