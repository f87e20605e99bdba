"""What `preflight` found → text and JSON. PURE."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.json_text import Envelope, entry
from resolver.report.escape import escape
from resolver.report.holders import holder_names
from resolver.report.machine import PortEntry, ports
from resolver.report.story import stories
from resolver.report.table import columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from resolver.compose.findings import EntryReport, Finding, Preflight
    from resolver.compose.model import ComposeService
    from resolver.model import PortReport, PortRequest
    from resolver.report.style import TextStyle

_HEADERS = ("SERVICE", "PORT", "TARGET", "STATE", "HOLDER")
_STATES = {"orphan": "held", "hidden": "held"}  # JSON tells them apart, and the findings do
_EXPLAINED = {"unpublished", "unchecked"}  # those that no finding explains
_WITH_HOLDER = {"held", "orphan", "hidden", "unknown", "yours"}
_WIDEST = 60
_LONGEST = 500
_COLOURED = {"free", "reserved", "yours", "held", "conflict", "unknown"}
HELD = frozenset({"held", "orphan", "unknown"})  # the findings that have a holder to tell of


def text(preflight: Preflight, style: TextStyle, following: str = "") -> str:
    """A table, and a line for each finding; in a verbose style the holders' stories, too.

    Args:
        preflight: what was found.
        style: what is written to.
        following: the next command, printed at the end; empty for none.
    """
    parts = (
        style.line(_headline(preflight), ""),
        _table(preflight, style),
        findings_text(preflight, preflight.findings, style),
        stories(_in_the_way(preflight), style) if style.verbose else "",
        f"next: {style.bold(following)}" if following else "",
    )
    return "\n\n".join(filter(None, parts))


def findings_text(preflight: Preflight, findings: Iterable[Finding], style: TextStyle) -> str:
    """A line for each, with the way out where it has one of its own, and a port that is free."""
    reports = _by_request(preflight)
    return "\n".join(
        style.headline("", each.level, f": {_sentence(each, reports, hint=each.code != 'held')}")
        for each in findings
    )


def github_annotations(preflight: Preflight, folder: Path, texts: Mapping[Path, str]) -> str:
    """The findings as a workflow of GitHub annotates them, a line for each.

    The form is that of docs.github.com, "Workflow commands"; a file below `folder` is named.
    Compose does not say on which line a port stands: it is looked for below its service.
    """
    lines = {file: text.splitlines() for file, text in texts.items() if file.is_relative_to(folder)}
    files = [each for each in preflight.project.files if each.is_relative_to(folder)]
    reports = _by_request(preflight)

    def where(found: Finding) -> str:
        file, line = next(_positions(found, lines), (files[0] if files else None, 0))
        if file is None:
            return ""
        place = f"file={_property(str(file.relative_to(folder)))},"
        return f"{place}line={line}," if line else place

    return "\n".join(
        f"::{'error' if each.level == 'conflict' else 'warning'} {where(each)}"
        f"title={_property(f'ultra-ports: {each.code}')}::{_data(_sentence(each, reports))}"
        for each in preflight.findings
    )


def _positions(found: Finding, lines: Mapping[Path, Sequence[str]]) -> Iterator[tuple[Path, int]]:
    """Where it may well be meant: the port below the name of its service, else that name."""
    ports = "|".join(str(each.port) for each in found.requests) or "(?!)"
    for file, text in lines.items():
        for service in reversed(found.services):
            name = re.compile(rf"""\s*["']?{re.escape(service)}["']?\s*:""")
            begin = next((at for at, line in enumerate(text, 1) if name.match(line)), 0)
            below = enumerate(text[begin - 1 :], begin) if begin else ()
            yield from (
                (file, at) for at, line in below if re.search(rf"(?<!\d)({ports})(?!\d)", line)
            )
            if begin:
                yield file, begin


def _sentence(
    found: Finding, reports: Mapping[PortRequest, PortReport], *, hint: bool = True
) -> str:
    beside = (reports[each].nearest_free for each in found.requests if each in reports)
    free = (f"{each.request.port} is free" for each in beside if each and found.code in HELD)
    way = f" ({escape(found.hint, _LONGEST)})" if hint and found.hint else ""
    return "; ".join([escape(found.message, _LONGEST) + way, *free])


def _data(text: str) -> str:
    return text.replace("%", "%25")  # what is escaped has no line feeds


def _property(text: str) -> str:
    return _data(escape(text)).replace(":", "%3A").replace(",", "%2C")


def _headline(preflight: Preflight) -> str:
    project = preflight.project
    files = ", ".join(escape(str(file)) for file in project.files)
    if any(entry.requests or entry.published.first is None for entry in preflight.entries):
        return f"project {escape(project.name)}: {files}"
    return f"project {escape(project.name)}: {files}: publishes no port"


def _by_request(preflight: Preflight) -> dict[PortRequest, PortReport]:
    return {port.request: port for port in preflight.report.ports}


def _table(preflight: Preflight, style: TextStyle) -> str:
    if not preflight.entries:
        return ""
    reports = _by_request(preflight)

    def coloured(state: str) -> str:
        return style.state(state) if state in _COLOURED else state

    rows = [_row(entry, reports) for entry in preflight.entries]
    return columns(_HEADERS, rows, width=style.width, painted={"STATE": coloured})


def _row(entry: EntryReport, reports: Mapping[PortRequest, PortReport]) -> tuple[str, ...]:
    published, state = entry.published, _STATES.get(entry.status, str(entry.status))
    held = [reports[port] for port, status in entry.ports if status == entry.status in _WITH_HOLDER]
    return (
        escape(published.service, _WIDEST),
        outer(entry),
        f"{published.target}/{published.transport}",
        f"{state}: {escape(entry.reason)}" if entry.status in _EXPLAINED else state,
        escape(entry.reason, _WIDEST)
        if entry.status == "reserved"
        else ", ".join(dict.fromkeys(holder_names(port.holders) for port in held)),
    )


def outer(entry: EntryReport) -> str:
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
        request for found in preflight.findings if found.code in HELD for request in found.requests
    }
    return [port for port in preflight.report.ports if port.request in wanted]


# --- JSON -----------------------------------------------------------------------------------------


class ProjectEntry(Struct, frozen=True):
    """Which project it is, and which command said so."""

    name: str
    working_dir: str
    files: list[str]
    source: str


class PublishedEntry(Struct, frozen=True):
    """One entry of a service's `ports:`, and how it stands with it."""

    text: str
    first: int | None
    last: int | None
    address: str | None
    transport: str
    target: int
    status: str
    reason: str
    labels: list[str]


class ComposeServiceEntry(Struct, frozen=True):
    """One enabled service."""

    name: str
    replicas: int
    network_mode: str
    ports: list[PublishedEntry]


class FindingEntry(Struct, frozen=True):
    """One line about the project."""

    level: str
    code: str
    message: str
    services: tuple[str, ...]
    ports: list[str]
    hint: str


class PreflightBody(Struct, frozen=True):
    """The preflight without the frame, as a part of a larger envelope."""

    project: ProjectEntry
    services: list[ComposeServiceEntry]
    findings: list[FindingEntry]
    report: list[PortEntry]
    notes: tuple[str, ...]


class PreflightEnvelope(Envelope, frozen=True, kw_only=True, tag="ultra-ports.preflight/1"):
    """The answer of `preflight`: a `PreflightBody` in its frame."""

    command: str = "preflight"
    exit_status: int
    project: ProjectEntry
    services: list[ComposeServiceEntry]
    findings: list[FindingEntry]
    report: list[PortEntry]
    notes: tuple[str, ...]


def envelope(preflight: Preflight) -> PreflightEnvelope:
    """The whole preflight."""
    return entry(PreflightEnvelope, body(preflight), exit_status=preflight.exit_status)


def body(preflight: Preflight) -> PreflightBody:
    """The same without the frame."""
    project = preflight.project
    folder, files = str(project.working_dir), list(map(str, project.files))
    return entry(
        PreflightBody,
        preflight,
        project=entry(ProjectEntry, project, working_dir=folder, files=files),
        services=[_service(each, preflight.entries) for each in project.services],
        findings=[entry(FindingEntry, each, ports=_labels(each)) for each in preflight.findings],
        report=ports(preflight.report),
    )


def _service(service: ComposeService, entries: Sequence[EntryReport]) -> ComposeServiceEntry:
    own = [_published(each) for each in entries if each.published.service == service.name]
    return entry(ComposeServiceEntry, service, ports=own)


def _published(found: EntryReport) -> PublishedEntry:
    return entry(
        PublishedEntry,
        found.published,
        status=found.status,
        reason=found.reason,
        labels=_labels(found),
    )


def _labels(of: Finding | EntryReport) -> list[str]:
    return list(map(str, of.requests))
