"""What `preflight` and `up` found → text and JSON. Pure, like all of this room."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resolver import __version__
from resolver.report.escape import escape
from resolver.report.machine import ports
from resolver.report.table import columns
from resolver.report.tree import tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.compose.findings import Entry, Finding, Preflight
    from resolver.model import PortReport, PortRequest

SCHEMA = "ultra-ports.preflight/1"
_HEADERS = ("SERVICE", "PORT", "TARGET", "STATUS", "WHY")
_WIDEST = 60
_LONGEST = 500
_HELD = {"held", "orphan", "unknown"}  # the findings that have a holder to tell of


def text(preflight: Preflight, following: str = "") -> str:
    """Table, findings, and the story of each holder that is in the way.

    Args:
        preflight: what was found.
        following: the next command, printed at the end; empty for none.
    """
    parts = (
        _headline(preflight),
        _table(preflight),
        "\n".join(map(line, preflight.findings)),
        tree(_in_the_way(preflight)),
        f"next: {following}" if following else "",
    )
    return "\n\n".join(filter(None, parts))


def line(found: Finding) -> str:
    """A line, and one with the way out where it has one of its own."""
    said = f"{found.level}: {escape(found.line, _LONGEST)}"
    return (
        f"{said}\n  {escape(found.hint, _LONGEST)}" if found.hint and found.code != "held" else said
    )


def _headline(preflight: Preflight) -> str:
    project = preflight.project
    files = ", ".join(escape(str(file)) for file in project.files)
    if any(entry.requests or entry.published.first is None for entry in preflight.entries):
        return f"project {escape(project.name)}: {files}"
    return f"project {escape(project.name)}: {files}: publishes no port"


def _table(preflight: Preflight) -> str:
    if not preflight.entries:
        return ""
    return columns(_HEADERS, [_row(entry) for entry in preflight.entries])


def _row(entry: Entry) -> tuple[str, ...]:
    published = entry.published
    return (
        escape(published.service, _WIDEST),
        outer(entry),
        f"{published.target}/{published.transport}",
        str(entry.status),
        escape(entry.reason, _WIDEST),
    )


def outer(entry: Entry) -> str:
    """The host's side of an entry."""
    if not entry.requests:
        return escape(entry.published.text, _WIDEST)
    first, last = entry.requests[0], entry.requests[-1]
    return (
        str(first)
        if first == last
        else f"{str(first).rpartition('/')[0]}-{last.port}/{last.transport}"
    )


def _in_the_way(preflight: Preflight) -> list[PortReport]:
    wanted: set[PortRequest] = {
        request for found in preflight.findings if found.code in _HELD for request in found.requests
    }
    return [port for port in preflight.report.ports if port.request in wanted]


# --- JSON -----------------------------------------------------------------------------------------


def envelope(preflight: Preflight) -> dict[str, Any]:
    """The preflight for `json_text.encode`; keys are always present."""
    return {
        "schema": SCHEMA,
        "tool": {"name": "ultra-ports", "version": __version__},
        "command": "preflight",
        "exit_status": int(preflight.exit_status),
        **body(preflight),
    }


def body(preflight: Preflight) -> dict[str, Any]:
    """The same without the frame, as a part of a larger envelope."""
    project = preflight.project
    return {
        "project": {
            "name": project.name,
            "working_dir": str(project.working_dir),
            "files": [str(file) for file in project.files],
            "source": project.source,
        },
        "services": list(_services(preflight)),
        "findings": [_finding(each) for each in preflight.findings],
        "report": ports(preflight.report),
        "notes": list(preflight.notes),
    }


def _services(preflight: Preflight) -> Iterator[dict[str, Any]]:
    for service in preflight.project.services:
        yield {
            "name": service.name,
            "replicas": service.replicas,
            "network_mode": service.network_mode,
            "ports": [
                _entry(each) for each in preflight.entries if each.published.service == service.name
            ],
        }


def _entry(entry: Entry) -> dict[str, Any]:
    published = entry.published
    return {
        "text": published.text,
        "first": published.first,
        "last": published.last,
        "address": published.address,
        "transport": published.transport,
        "target": published.target,
        "status": entry.status,
        "reason": entry.reason,
        "labels": [str(request) for request in entry.requests],
    }


def _finding(found: Finding) -> dict[str, Any]:
    return {
        "level": found.level,
        "code": found.code,
        "message": found.line,
        "services": list(found.services),
        "ports": [str(request) for request in found.requests],
        "hint": found.hint,
    }
