"""What `up` did → text and JSON. PURE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.json_text import Envelope, entry
from resolver.model import Binding, Command
from resolver.report import preflight
from resolver.report.escape import escape
from resolver.report.machine import PortEntry, ports
from resolver.report.story import stories
from resolver.report.table import columns
from resolver.shell import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.compose.launch import Launch
    from resolver.compose.proof import PortProof
    from resolver.report.style import TextStyle

_HEADERS = ("SERVICE", "PORT", "TARGET", "CONTAINER", "ANSWERS", "HOW")
_WIDEST = 40
_ANSWERS = {True: "yes", False: "no", None: "unknown"}


def text(launch: Launch, style: TextStyle) -> str:
    """The story, in order; of the preflight only what matters now."""
    if launch.refusal and launch.freed is None:
        found = preflight.text(launch.preflight, style)
        return f"{found}\n\n{style.line(f'nothing was started: {launch.refusal}', '')}"
    warnings = [each for each in launch.preflight.findings if each.level == "warning"]
    freed = stories(launch.freed.ports, style) if launch.freed else ""
    parts = [preflight.findings_text(launch.preflight, warnings, style), freed]
    if launch.refusal:
        parts.append(style.line(f"nothing was started: {launch.refusal}", ""))
    elif launch.dry_run:
        parts.append(f"would start: {style.bold(shown(Command(launch.command)))}")
    elif launch.compose_status:
        parts += list(_failure(launch, style))
    elif launch.checked:
        parts += [_table(launch, style), _verdict(launch, style)]
    else:
        parts.append("started; the project publishes no port that could be checked")
    return "\n\n".join(filter(None, parts))


def _table(launch: Launch, style: TextStyle) -> str:
    rows = list(map(_row, launch.checked))
    return columns(_HEADERS, rows, width=style.width, painted={"ANSWERS": style.state})


def _failure(launch: Launch, style: TextStyle) -> Iterator[str]:
    failed = f"compose failed with status {launch.compose_status}"
    if launch.taken_by is None:
        yield style.line(f"{failed}; its ports are nobody else's", "")
        return
    labels = ", ".join(str(port.request) for port in launch.taken_by.ports)
    yield style.line(f"{failed}: {labels} was taken in between", "")
    yield stories(launch.taken_by.ports, style)


def _verdict(launch: Launch, style: TextStyle) -> str:
    bad = [each for each in launch.checked if each.answer.good is not True]
    return "\n".join(
        style.headline(
            "",
            "not answering" if each.answer.good is False else "not verified",
            f": {_where(each)} of {escape(each.service, _WIDEST)}: {each.answer.reason}",
        )
        for each in bad
    )


def _where(each: PortProof) -> str:
    return str(each.outer) if each.outer else f"port {each.target}"


def _row(each: PortProof) -> tuple[str, ...]:
    port = str(each.outer) if each.outer else ""
    return (
        escape(each.service, _WIDEST),
        f"{port} (automatic)" if each.automatic and port else port,
        str(each.target),
        escape(each.container, _WIDEST),
        _ANSWERS[each.answer.good],
        escape(each.answer.reason, _WIDEST),
    )


# --- JSON -----------------------------------------------------------------------------------------


class ComposeEntry(Struct, frozen=True):
    """Compose's own run; in a dry run, which would be that, it has no exit status."""

    command: tuple[str, ...]
    exit_status: int | None


class PortProofEntry(Struct, frozen=True):
    """One published port of one container; `answers` None where nobody can tell."""

    service: str
    container: str | None
    target: int
    binding: Binding | None
    automatic: bool
    answers: bool | None
    reason: str


class UpEnvelope(Envelope, frozen=True, kw_only=True, tag="ultra-ports.up/1"):
    """The answer of `up`."""

    command: str
    dry_run: bool
    exit_status: int
    refusal: str
    preflight: preflight.PreflightBody
    resolved: list[PortEntry]
    compose: ComposeEntry | None
    taken_by: list[PortEntry]
    ports: list[PortProofEntry]


def envelope(launch: Launch) -> UpEnvelope:
    """The whole of it."""
    compose = ComposeEntry(launch.command, launch.compose_status) if launch.command else None
    return entry(
        UpEnvelope,
        launch,
        command="up",
        preflight=preflight.body(launch.preflight),
        resolved=ports(launch.freed) if launch.freed else [],
        compose=compose,
        taken_by=ports(launch.taken_by) if launch.taken_by else [],
        ports=[_checked(each) for each in launch.checked],
    )


def _checked(each: PortProof) -> PortProofEntry:
    return entry(
        PortProofEntry,
        each,
        container=each.container or None,
        binding=each.outer,
        answers=each.answer.good,
        reason=each.answer.reason,
    )
