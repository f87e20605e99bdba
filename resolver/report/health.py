"""Health as a table for people and as plain values for machines."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from resolver import __version__
from resolver.report.escape import escape
from resolver.report.machine import holder
from resolver.report.table import columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    # Values of a room above, which are looked at and never made here
    from resolver.health.model import Answer, HealthReport, ServiceHealth, Target
    from resolver.model import Holder
    from resolver.project.model import Probe

SCHEMA = "ultra-ports.health/1"
_HEADERS = ("SERVICE", "PORT", "LEVEL", "HEALTH", "HOLDER", "ANSWER")
_WIDEST = 40
_LONGEST = 400  # characters of a reason, which may quote names that came from strangers
_HEALTH = {True: "healthy", False: "unhealthy", None: "unknown"}


def table(report: HealthReport) -> str:
    """A row for each target, and below the table what is wrong with it or to be known of it."""
    rows = [_row(service) for service in report.services]
    below = [line for service in report.services for line in _below(service)]
    return "\n".join([columns(_HEADERS, rows), *(["", *below] if below else [])])


def _row(service: ServiceHealth) -> tuple[str, ...]:
    return (
        service.target.name,
        str(service.target.request),
        service.level,
        _HEALTH[service.healthy],
        _holders(service),
        _answer(service.answers),
    )


def _holders(service: ServiceHealth) -> str:
    names = dict.fromkeys(_name(each.classification.holder) for each in service.holders)
    said = escape(", ".join(names), _WIDEST)
    return f"{said} (a stranger)" if service.belongs == "stranger" else said


def _name(holder: Holder) -> str:
    """A holder in a few words, as anybody may have named it."""
    if holder.container is not None:
        return f"container {holder.container.name}"
    if holder.master is not None:
        return str(holder.master)
    return "hidden" if holder.hidden else "the kernel" if holder.kernel else "?"


def _answer(answers: Iterable[Answer]) -> str:
    """The worst of those that came: what has to be looked after."""
    come = [each for each in answers if each.level in {"accepts", "speaks"}]
    worst = min(come, key=lambda each: (each.good, bool(each.address)), default=None)
    if worst is None:
        return ""
    return f"{escape(worst.reason, _WIDEST)} ({worst.seconds * 1000:.0f} ms)"


def _below(service: ServiceHealth) -> Iterator[str]:
    title = title_of(service.target)
    if service.healthy is not True:
        yield f"{title} is {_HEALTH[service.healthy]}: {escape(service.reason, _LONGEST)}"
    if service.lease:
        yield f"{title}: reserved for {escape(service.lease, _LONGEST)}"
    for note in service.notes:
        yield f"{title}: {escape(note, _LONGEST)}"


def title_of(target: Target) -> str:
    """`api 8085/tcp`, or the port alone."""
    return f"{target.name} {target.request}".strip()


def envelope(report: HealthReport) -> dict[str, Any]:
    """The report for `json_text.encode`; keys are always present, and times are in UTC."""
    return {
        "schema": SCHEMA,
        "tool": {"name": "ultra-ports", "version": __version__},
        "command": "health",
        "at": datetime.fromtimestamp(report.at, UTC).isoformat(timespec="milliseconds"),
        "exit_status": 0 if report.healthy else 1,
        "healthy": report.healthy,
        "services": [_service(service) for service in report.services],
        "notes": list(report.notes),
    }


def _service(service: ServiceHealth) -> dict[str, Any]:
    target = service.target
    request = target.request
    return {
        "service": target.name or None,
        "project": target.project or None,
        "label": str(request),
        "request": {
            "port": request.port,
            "transport": request.transport,
            "address": request.address,
        },
        "probe": _probe(target.probe),
        "level": service.level,
        "healthy": service.healthy,
        "reason": service.reason,
        "belongs": service.belongs,
        "lease": service.lease or None,
        "inside": service.inside,
        "answers": [_plain_answer(answer) for answer in service.answers],
        "holders": [holder(each) for each in service.holders],
        "notes": list(service.notes),
    }


def _probe(probe: Probe | None) -> dict[str, Any] | None:
    if probe is None:
        return None
    return {
        "kind": probe.kind,
        "host": probe.host or None,
        "path": probe.path if probe.kind in {"http", "https"} else None,
        "statuses": list(probe.statuses),
        "command": list(probe.command),
        "timeout_seconds": probe.timeout_seconds,
    }


def _plain_answer(answer: Answer) -> dict[str, Any]:
    return {
        "address": answer.address or None,
        "level": answer.level,
        "good": answer.good,
        "reason": answer.reason,
        "status": answer.status or None,
        "seconds": round(answer.seconds, 6),
    }
