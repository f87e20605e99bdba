"""Leases in words and as plain values."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from resolver import __version__
from resolver.report.escape import escape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resolver.leases.model import Claim, Lease, Owner

SCHEMA = "ultra-ports.reservations/1"
_HEADERS = ("PORT", "SERVICE", "PROJECT", "OWNER", "EXPIRES", "HELD")
_WIDEST = 40
_DAY = "%Y-%m-%d %H:%M:%S"


def whose(lease: Lease) -> str:
    """Whose it is: `api of project shop (/srv/shop) by process 4711 until 2026-11-23 08:00:00`."""
    return f"{service(lease)}{_by(lease)}{_until(lease)}"


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


def _by(lease: Lease) -> str:
    return f" by process {lease.owner.pid}" if lease.owner else ""


def _until(lease: Lease) -> str:
    return f" until {when(lease.expires_at)}" if lease.expires_at is not None else ""


def table(leases: Sequence[Lease], names: Mapping[Owner, str], *, scopes: bool = False) -> str:
    """A row for each lease.

    Args:
        leases: in the order of the rows.
        names: what the owners' processes are called, for those that can be seen.
        scopes: whether there is a column for the scope.
    """
    headers = (*_HEADERS, "SCOPE") if scopes else _HEADERS
    rows = [_row(lease, names)[: len(headers)] for lease in leases]
    return tabulate(rows, headers=headers, tablefmt="plain", disable_numparse=True)


def _row(lease: Lease, names: Mapping[Owner, str]) -> tuple[str, ...]:
    owner = f"{names.get(lease.owner) or 'process'} {lease.owner.pid}" if lease.owner else ""
    return (
        str(lease.request),
        escape(lease.service, _WIDEST),
        escape(lease.project, _WIDEST),
        escape(owner, _WIDEST),
        when(lease.expires_at) if lease.expires_at is not None else "with its owner",
        "yes" if lease.held else "",
        escape(lease.scope, _WIDEST),
    )


def envelope(command: str, where: str, leases: Sequence[Lease], *, lasting: bool) -> dict[str, Any]:
    """The answer of a command for `json.dumps`; keys are always present.

    `where` names the store, and `lasting` says whether it outlives the command.
    """
    return {
        "schema": SCHEMA,
        "tool": {"name": "ultra-ports", "version": __version__},
        "command": command,
        "store": {"where": where, "lasting": lasting},
        "reservations": [plain(lease) for lease in leases],
    }


def plain(lease: Lease) -> dict[str, Any]:
    """The lease for `json.dumps`; keys are always present."""
    owner = lease.owner
    return {
        "label": str(lease.request),
        "port": lease.port,
        "transport": lease.transport,
        "address": lease.address,
        "service": lease.service,
        "project": lease.project,
        "place": lease.place,
        "scope": lease.scope,
        "token": lease.token,
        "owner": None
        if owner is None
        else {
            "pid": owner.pid,
            "start_time": owner.start_time,
            "boot": owner.boot,
            "pid_namespace": owner.pid_namespace,
        },
        "created_at": lease.created_at,
        "expires_at": lease.expires_at,
        "held": lease.held,
    }
