"""The story of each port: the causal chain, the evidence, what was done, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.model import AdviseStep, Confidence, Result, Verdict
from resolver.report.escape import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.model import HolderReport, Outcome, PortReport

_ARROW = " → "


def tree(ports: Iterable[PortReport]) -> str:
    """A paragraph for each port that has something to tell."""
    return "\n\n".join("\n".join(_port(port)) for port in ports if _has_story(port))


def _has_story(port: PortReport) -> bool:
    return bool(port.holders or port.retaken_by or port.notes or port.verdict != "free")


def _port(port: PortReport) -> Iterator[str]:
    reason = f": {escape(port.reason, 400)}" if port.reason else ""
    yield f"{port.request} {port.verdict}{reason}"
    told: set[object] = set()
    for holder in port.holders:
        yield from _indented(_holder(holder, told))
    for holder in port.retaken_by:
        yield f"  taken back by {_chain(holder)}"
    for note in port.notes:
        yield f"  note: {escape(note, 400)}"


def _holder(report: HolderReport, told: set[object]) -> Iterator[str]:
    """A holder's lines; what was done is told once for all holders that share a step."""
    yield f"{report.classification.holder.binding}  {_chain(report)}"
    for fact in report.classification.evidence:
        yield f"  because {escape(fact)}"
    if report.classification.confidence is Confidence.SUSPECTED:
        yield "  suspected, not confirmed"
    if report.step is None or report.step in told:
        return
    told.add(report.step)
    if report.outcome is not None:
        yield from _outcome(report.outcome)
    yield from _commands(report)


def _chain(report: HolderReport) -> str:
    links = report.classification.chain or (report.classification.reason,)
    return _ARROW.join(escape(link) for link in links)


def _outcome(outcome: Outcome) -> Iterator[str]:
    for action in outcome.actions:
        yield f"  did: {escape(action)}"
    yield f"  {outcome.result}: {escape(outcome.reason, 400)}"


def _commands(report: HolderReport) -> Iterator[str]:
    step = report.step
    if step is None:
        return
    if isinstance(step, AdviseStep):
        yield f"  left alone: {escape(step.why, 400)}"
    hidden = isinstance(step, AdviseStep) and step.verdict is Verdict.HIDDEN
    label = "with more privilege" if hidden else "to free it"
    ended = report.outcome is not None and report.outcome.result is Result.DONE
    if not ended:
        for command in step.commands:
            yield f"  {label}: {escape(command, 400)}"
    if ended or isinstance(step, AdviseStep):
        for command in step.undo:
            yield f"  to bring it back: {escape(command, 400)}"


def _indented(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield f"  {line}"
