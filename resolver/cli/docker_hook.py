"""What `docker ports` says after a command of docker has failed: who is in the way, what helps."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from resolver import api
from resolver.compose.command import ComposeCommand
from resolver.compose.findings import Code, Severity
from resolver.compose.model import ComposeArguments
from resolver.compose.preflight import preflight
from resolver.errors import UltraPortsError
from resolver.model import AdviseStep
from resolver.report.escape import escape
from resolver.report.story import chain
from resolver.shell import shown

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from resolver.model import PortReport

RESOLVE = "docker ports resolve"
_MOST = 3  # holders or findings that are named; the CLI prints no more than 10 lines
_ELSEWHERE = {"f", "file", "p", "project-name", "project-directory", "profile", "env-file"}


def answer(wanted: Sequence[str], flags: Collection[str], command: str) -> list[str]:
    """Lines for a person; none where nobody knows.

    Args:
        wanted: the port that was taken, in the PORT grammar, twice where either transport may be
            meant; empty where docker says no more than that compose failed.
        flags: the names of the failed command's options, whose values are not known.
        command: the path of `ultra-ports`, for a line behind `sudo`.
    """
    with suppress(UltraPortsError):
        return _held(wanted, command) if wanted else _project(flags)
    return []


def _held(wanted: Sequence[str], command: str) -> list[str]:
    """Who holds a port, and the one command that frees it."""
    report = api.who(*wanted, rerun_command=(command, "resolve", *wanted))
    ports = zip(wanted, report.ports, strict=True)
    lines = [
        line for text, port in ports if not port.verdict.is_free for line in _story(text, port)
    ]
    return lines or [f"{wanted[0]} is free by now: the same command may do"]


def _story(text: str, port: PortReport) -> list[str]:
    holders = {each.holder.container or chain(each): chain(each) for each in port.holders}
    lines = [f"{port.request} is held by {each}" for each in holders.values()][:_MOST]
    unknown = f"{port.request} {port.verdict}: {escape(port.reason)}"
    return [*(lines or [unknown]), *(f"  {line}" for line in _commands(text, port))]


def _commands(text: str, port: PortReport) -> list[str]:
    """The manager's own command where ours would only print it; else ours."""
    for holder in port.holders:
        if isinstance(holder.step, AdviseStep):
            commands = [shown(each) for each in holder.step.commands]
            return commands[:_MOST] or [f"left alone: {escape(holder.step.why)}"]
    return [f"{RESOLVE} {text}"]


def _project(flags: Collection[str]) -> list[str]:
    """What is in the way of the compose project of the working directory."""
    if not _ELSEWHERE.isdisjoint(flags):
        return []
    hint = f"{RESOLVE} --compose"
    found = preflight(ComposeCommand(ComposeArguments()), hint=hint)
    conflicts = [each for each in found.findings if each.level is Severity.CONFLICT]
    lines = [escape(each.message) for each in conflicts][:_MOST]
    held = any(each.code is Code.HELD for each in conflicts)
    return [*lines, f"  {hint}"] if held else lines
