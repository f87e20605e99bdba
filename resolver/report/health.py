"""Health as a table for people, and as JSON: the structs that its envelope is made of."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.json_text import Envelope, entry
from resolver.model import PortRequest
from resolver.report.escape import escape
from resolver.report.events import timestamp
from resolver.report.holders import holder_name
from resolver.report.machine import HolderEntry, holder
from resolver.report.style import wrapped
from resolver.report.table import columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    # Values of a room above, which are looked at and never made here
    from resolver.health.model import Answer, HealthReport, ServiceHealth, Target
    from resolver.project.model import Probe

_HEADERS = ("SERVICE", "PORT", "LEVEL", "HEALTH", "HOLDER", "ANSWER")
_WIDEST = 40
_LONGEST = 400  # characters of a reason, which may quote names that came from strangers


class ProbeEntry(Struct, frozen=True):
    """How a service is asked."""

    kind: str
    host: str | None
    path: str | None
    statuses: tuple[int, ...]
    command: tuple[str, ...]
    timeout_seconds: float


class AnswerEntry(Struct, frozen=True):
    """What one address said; a command's answer has no address."""

    address: str | None
    level: str
    good: bool
    reason: str
    status: int | None
    seconds: float


class ServiceEntry(Struct, frozen=True):
    """One service, or one port alone."""

    service: str | None
    project: str | None
    label: str
    request: PortRequest
    probe: ProbeEntry | None
    level: str
    healthy: bool | None
    reason: str
    belongs: str
    lease: str | None
    inside: bool | None
    answers: list[AnswerEntry]
    holders: list[HolderEntry]
    notes: tuple[str, ...]


class HealthEnvelope(Envelope, frozen=True, kw_only=True, tag="ultra-ports.health/1"):
    """The answer of `health`, and of `/healthz`."""

    command: str = "health"
    at: str
    exit_status: int
    healthy: bool
    services: list[ServiceEntry]
    notes: tuple[str, ...]


def table(report: HealthReport, width: int | None = None) -> str:
    """A row for each target, and below the table what is wrong with it or to be known of it.

    It is fitted to a width in columns; None, as for a pipe, cuts and wraps nothing.
    """
    rows = [_row(service) for service in report.services]
    below = [wrapped(line, width) for service in report.services for line in _below(service)]
    return "\n".join([columns(_HEADERS, rows, width=width), *(["", *below] if below else [])])


def _row(service: ServiceHealth) -> tuple[str, ...]:
    return (
        service.target.name,
        str(service.target.request),
        service.level,
        service.state,
        _holders(service),
        _answer(service.answers),
    )


def _holders(service: ServiceHealth) -> str:
    names = dict.fromkeys(holder_name(each.holder) for each in service.holders)
    said = escape(", ".join(names), _WIDEST)
    return f"{said} (a stranger)" if service.belongs == "stranger" else said


def _answer(answers: Iterable[Answer]) -> str:
    """The worst of those that came: what has to be looked after."""
    worst = min(
        (each for each in answers if each.came),
        key=lambda each: (each.good, bool(each.address)),
        default=None,
    )
    if worst is None:
        return ""
    return f"{escape(worst.reason, _WIDEST)} ({worst.seconds * 1000:.0f} ms)"


def _below(service: ServiceHealth) -> Iterator[str]:
    title = title_of(service.target)
    if service.healthy is not True:
        yield f"{title} is {service.state}: {escape(service.reason, _LONGEST)}"
    if service.lease:
        yield f"{title}: reserved for {escape(service.lease, _LONGEST)}"
    for note in service.notes:
        yield f"{title}: {escape(note, _LONGEST)}"


def title_of(target: Target) -> str:
    """`api 8085/tcp`, or the port alone."""
    return f"{target.name} {target.request}".strip()


def envelope(report: HealthReport) -> HealthEnvelope:
    """The whole report; times are in UTC."""
    return entry(
        HealthEnvelope,
        report,
        at=timestamp(report.at, UTC),
        exit_status=0 if report.healthy else 1,
        services=[_service(service) for service in report.services],
    )


def _service(service: ServiceHealth) -> ServiceEntry:
    target = service.target
    return entry(
        ServiceEntry,
        service,
        service=target.name or None,
        project=target.project or None,
        label=str(target.request),
        request=target.request,
        probe=_probe(target.probe),
        lease=service.lease or None,
        answers=[_answer_entry(each) for each in service.answers],
        holders=[holder(each) for each in service.holders],
    )


def _probe(probe: Probe | None) -> ProbeEntry | None:
    if probe is None:
        return None
    path = probe.path if probe.kind in {"http", "https"} else None
    return entry(ProbeEntry, probe, host=probe.host or None, path=path)


def _answer_entry(answer: Answer) -> AnswerEntry:
    return entry(
        AnswerEntry,
        answer,
        address=answer.address or None,
        status=answer.status or None,
        seconds=round(answer.seconds, 6),
    )
