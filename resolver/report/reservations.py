"""Leases as a listing and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from resolver.json_text import Envelope
from resolver.report.escape import escape
from resolver.report.lease import when
from resolver.report.table import columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resolver.leases.model import Lease, Owner

_HEADERS = ("PORT", "SERVICE", "PROJECT", "OWNER", "EXPIRES", "HELD")
_WIDEST = 40


def table(
    leases: Sequence[Lease],
    names: Mapping[Owner, str],
    *,
    scopes: bool = False,
    width: int | None = None,
) -> str:
    """A row for each lease.

    Args:
        leases: in the order of the rows.
        names: what the owners' processes are called, for those that can be seen.
        scopes: whether there is a column for the scope.
        width: in columns of a terminal; None, as for a pipe, cuts nothing.
    """
    headers = (*_HEADERS, "SCOPE") if scopes else _HEADERS
    rows = [_row(lease, names)[: len(headers)] for lease in leases]
    return columns(headers, rows, width=width)


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


class StoreEntry(Struct, frozen=True):
    """Where the leases are kept, and whether they outlive the command."""

    where: str
    lasting: bool


class ReservationsEnvelope(Envelope, frozen=True, kw_only=True, tag="ultra-ports.reservations/1"):
    """The answer of `reserve`, `release` and `reservations`."""

    command: str
    store: StoreEntry
    reservations: list[dict[str, Any]]


def plain(lease: Lease) -> dict[str, Any]:
    """The lease as it is printed: all that the store has of it, and its endpoint as a PORT."""
    fields: dict[str, Any] = msgspec.to_builtins(lease)
    return {"label": str(lease.request), **fields}
