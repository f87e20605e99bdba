"""PURE: events about ports → lines for people, and the structs that are printed as JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from resolver.json_text import entry
from resolver.model import PortRequest
from resolver.report.escape import escape
from resolver.report.holders import holder_names
from resolver.report.lease import service, when
from resolver.report.machine import HolderEntry, holder
from resolver.report.reservations import plain as plain_lease

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import tzinfo

    from resolver.health.events import Event
    from resolver.health.port_history import PortHistory
    from resolver.leases.model import Lease

_LONGEST = 400  # characters of one reason
_MINUTE, _HOUR = 60, 3600


class EventEnvelope(Struct, frozen=True, tag_field="schema", tag="ultra-ports.event/1"):
    """One event; keys are always present. `schema` is public API: it changes with the shape."""

    at: str
    event: str
    label: str | None
    request: PortRequest | None
    services: tuple[str, ...]
    holders: list[HolderEntry]
    before: list[HolderEntry]
    seconds: float | None
    at_least: bool
    count: int
    lease: Any  # as `reservations` prints it
    reason: str


def line(event: Event, zone: tzinfo | None = None) -> str:
    """One line: `2026-11-23T01:02:03.456+01:00 8085/tcp (api) taken by node 4711`."""
    return f"{timestamp(event.at, zone)} {description(event)}"


def description(event: Event) -> str:
    """The same without its time."""
    about = f"{titled(event.request, event.services)} " if event.request else ""
    return f"{about}{_sentence(event)}"


def envelope(event: Event, zone: tzinfo | None = None) -> EventEnvelope:
    """One event."""
    return entry(
        EventEnvelope,
        event,
        at=timestamp(event.at, zone),
        event=event.kind,
        label=event.request and str(event.request),
        holders=[holder(each) for each in event.holders],
        before=[holder(each) for each in event.before],
        seconds=event.seconds and round(event.seconds, 3),
        lease=event.lease and plain_lease(event.lease),
    )


def timestamp(at: float, zone: tzinfo | None = None) -> str:
    """ISO 8601 to the millisecond, with the offset of the zone, or of the local time."""
    return datetime.fromtimestamp(at, UTC).astimezone(zone).isoformat(timespec="milliseconds")


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 5 s`, `26 h 10 min`."""
    if seconds < 10:  # noqa: PLR2004 - tenths are told as long as they matter
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"


def moment(epoch_seconds: float, day: str) -> str:
    """Local time for the live view; the date only where that is not the `day` (`2026-11-23`)."""
    return when(epoch_seconds).removeprefix(f"{day} ")


def row(history: PortHistory, lease: Lease | None, day: str) -> tuple[str, ...]:
    """One port for the live view of a day: title, state, holder, since when, respawns, lease."""
    since = moment(history.since.at, day)
    return (
        titled(history.request, history.services),
        "held" if history.holders else "free",
        holder_names(history.holders),
        f"before {since}" if history.from_start else since,
        str(history.respawns or ""),
        escape(f"{lease.service} of {lease.project}") if lease else "",
    )


HEADERS = ("PORT", "STATE", "HOLDER", "SINCE", "RESPAWNS", "RESERVED FOR")
"""Of the rows."""


def titled(request: PortRequest, services: Iterable[str]) -> str:
    """`8085/tcp (api)`, or the port alone."""
    names = ", ".join(services)
    return f"{request} ({names})" if names else str(request)


def _sentence(event: Event) -> str:
    holders, before = holder_names(event.holders), holder_names(event.before)
    reserved = f"; reserved for {service(event.lease)}" if event.lease else ""
    match event.kind.value:
        case "held":
            text = f"held by {holders}{reserved}"
        case "free":
            text = f"free{reserved}"
        case "taken":
            text = f"taken by {holders}" if holders else f"taken, {event.reason}"
        case "released":
            text = f"released by {before} after {_long(event)}"
        case "changed":
            text = f"changed hands: {holders}, before it {before} for {_long(event)}"
        case "respawned":
            text = f"respawned: {holders}, {_gap(event)} {before} ended ({_times(event.count)})"
        case "note":
            text = event.reason
        case _:
            text = _of_lease(event)
    return escape(text, _LONGEST)


def _of_lease(event: Event) -> str:
    if event.lease is None:
        return event.kind
    until = f" until {when(event.lease.expires_at)}" if event.lease.expires_at else ""
    match event.kind.value:
        case "lease-granted":
            return f"reserved for {service(event.lease)}{until}"
        case "lease-expired":
            return f"no longer reserved for {service(event.lease)}: {event.reason}"
        case _:
            return f"no longer reserved for {service(event.lease)}: it was released"


def _long(event: Event) -> str:
    return f"{'at least ' if event.at_least else ''}{duration(event.seconds or 0.0)}"


def _gap(event: Event) -> str:
    return f"{duration(event.seconds)} after" if event.seconds else "just after"


def _times(count: int) -> str:
    return "once so far" if count == 1 else f"{count} times so far"
