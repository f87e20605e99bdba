"""What `up` did → text and JSON. Pure, like all of this room."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resolver import __version__
from resolver.report import preflight
from resolver.report.escape import escape
from resolver.report.machine import PortEntry, ports
from resolver.report.table import columns, table
from resolver.report.tree import tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.compose.checking import Checked
    from resolver.compose.launch import Launch
    from resolver.model import Report

SCHEMA = "ultra-ports.up/1"
_HEADERS = ("SERVICE", "PORT", "TARGET", "CONTAINER", "ANSWERS", "HOW")
_WIDEST = 40
_ANSWERS = {True: "yes", False: "no", None: "unknown"}


def text(launch: Launch) -> str:
    """The story, in order; of the preflight only what matters now."""
    if launch.refusal and launch.freed is None:
        return f"{preflight.text(launch.preflight)}\n\nnothing was started: {launch.refusal}"
    parts = [_findings(launch), _story(launch.freed)]
    if launch.refusal:
        parts.append(f"nothing was started: {launch.refusal}")
    elif launch.compose_status:
        parts += list(_failure(launch))
    elif launch.checked:
        parts += [columns(_HEADERS, list(map(_row, launch.checked))), _verdict(launch)]
    else:
        parts.append("started; the project publishes no port that could be checked")
    return "\n\n".join(filter(None, parts))


def _findings(launch: Launch) -> str:
    return "\n".join(
        preflight.line(each) for each in launch.preflight.findings if each.level == "warning"
    )


def _story(report: Report | None) -> str:
    if report is None:
        return ""
    return f"{table(report.ports)}\n\n{tree(report.ports)}".rstrip()


def _failure(launch: Launch) -> Iterator[str]:
    if launch.taken_by is None:
        yield f"compose failed with status {launch.compose_status}; its ports are nobody else's"
        return
    labels = ", ".join(str(port.request) for port in launch.taken_by.ports)
    yield f"compose failed with status {launch.compose_status}: {labels} was taken in between"
    yield _story(launch.taken_by)


def _verdict(launch: Launch) -> str:
    bad = [each for each in launch.checked if each.answer.good is not True]
    return "\n".join(
        f"{'not answering' if each.answer.good is False else 'not verified'}: "
        f"{_where(each)} of {escape(each.service, _WIDEST)}: {escape(each.answer.reason, 400)}"
        for each in bad
    )


def _where(each: Checked) -> str:
    return str(each.outer) if each.outer else f"port {each.target}"


def _row(each: Checked) -> tuple[str, ...]:
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


def envelope(launch: Launch) -> dict[str, Any]:
    """The whole for `json_text.encode`; keys are always present."""
    ran = launch.compose_status is not None
    return {
        "schema": SCHEMA,
        "tool": {"name": "ultra-ports", "version": __version__},
        "command": "up",
        "exit_status": int(launch.exit_status),
        "refusal": launch.refusal,
        "preflight": preflight.body(launch.preflight),
        "resolved": _ports(launch.freed),
        "compose": {"command": list(launch.command), "exit_status": launch.compose_status}
        if ran
        else None,
        "taken_by": _ports(launch.taken_by),
        "ports": [_checked(each) for each in launch.checked],
    }


def _ports(report: Report | None) -> list[PortEntry]:
    return [] if report is None else ports(report)


def _checked(each: Checked) -> dict[str, Any]:
    outer = each.outer
    return {
        "service": each.service,
        "container": each.container or None,
        "target": each.target,
        "binding": None
        if outer is None
        else {"transport": outer.transport, "address": outer.address, "port": outer.port},
        "automatic": each.automatic,
        "answers": each.answer.good,
        "reason": each.answer.reason,
    }
