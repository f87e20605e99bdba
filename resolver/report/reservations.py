"""Leases as a listing and as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resolver import __version__
from resolver.report.escape import escape
from resolver.report.lease import when
from resolver.report.table import columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resolver.leases.model import Lease, Owner

SCHEMA = "ultra-ports.reservations/1"
_HEADERS = ("PORT", "SERVICE", "PROJECT", "OWNER", "EXPIRES", "HELD")
_WIDEST = 40


def table(leases: Sequence[Lease], names: Mapping[Owner, str], *, scopes: bool = False) -> str:
    """A row for each lease.

    Args:
        leases: in the order of the rows.
        names: what the owners' processes are called, for those that can be seen.
        scopes: whether there is a column for the scope.
    """
    headers = (*_HEADERS, "SCOPE") if scopes else _HEADERS
    rows = [_row(lease, names)[: len(headers)] for lease in leases]
    return columns(headers, rows)


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
