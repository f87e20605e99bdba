"""The story of each port: the causal chain, the evidence, what was done, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.model import AdviseStep, CollateralKind, Confidence, Result, Verdict, Whose
from resolver.report.escape import escape
from resolver.shell import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.model import HolderReport, Outcome, PortReport, Step

_ARROW = " → "


def tree(ports: Iterable[PortReport]) -> str:
    """A paragraph for each port that has something to tell."""
    return "\n\n".join("\n".join(_port(port)) for port in ports if _has_story(port))


def _has_story(port: PortReport) -> bool:
    return bool(port.holders or port.retaken_by or port.notes or port.verdict != "free")


def _port(port: PortReport) -> Iterator[str]:
    reason = f": {escape(port.reason, 400)}" if port.reason else ""
    yield f"{port.title} {port.verdict}{reason}"
    for together in _together(port.holders):
        yield from (f"  {line}" for line in _holders(together, port.reason))
    for holder in port.retaken_by:
        yield f"  taken back by {chain(holder)}"
        if isinstance(holder.step, AdviseStep):
            yield from (f"    to free it: {shown(each)}" for each in holder.step.commands)
    for note in port.notes:
        yield f"  note: {escape(note, 400)}"


def _together(holders: Iterable[HolderReport]) -> Iterable[list[HolderReport]]:
    """Holders that end together, such as the two forwarders of one container, are one story."""
    found: dict[object, list[HolderReport]] = {}
    for holder in holders:
        key = (holder.step, holder.outcome) if holder.step else holder
        found.setdefault(key, []).append(holder)
    return found.values()


def _holders(together: list[HolderReport], known: str) -> Iterator[str]:
    first = together[0]
    bindings = dict.fromkeys(str(each.classification.holder.binding) for each in together)
    yield f"{', '.join(bindings)}  {chain(first)}"
    for fact in dict.fromkeys(fact for each in together for fact in each.classification.evidence):
        yield f"  because {escape(fact)}"
    if first.classification.ownership.whose is Whose.OTHER:
        yield f"  belongs to {escape(str(first.classification.ownership), 200)}"
    yield from _collateral(together)
    if first.classification.confidence is Confidence.SUSPECTED:
        yield "  suspected, not confirmed"
    if first.outcome is not None:
        yield from _outcome(first.outcome)
    if first.step is not None:
        yield from _commands(first.step, first.outcome, known)


def _collateral(together: list[HolderReport]) -> Iterator[str]:
    """What is lost with them: the other ports in the first line."""
    found = list(
        dict.fromkeys(lost for each in together for lost in each.classification.collateral)
    )
    ports = [lost.text for lost in found if lost.kind is CollateralKind.PORT]
    if ports:
        yield f"  also serves {escape(', '.join(ports), 400)}"
    outcome = together[0].outcome
    label = "also ended" if outcome and outcome.result is Result.DONE else "would also end"
    for lost in found:
        if lost.kind is not CollateralKind.PORT:
            evidence = f" ({escape(lost.evidence, 200)})" if lost.evidence else ""
            yield f"  {label}: {escape(lost.text, 200)}{evidence}"


def chain(report: HolderReport) -> str:
    """Who a holder is and what would bring it back, in one line."""
    links = report.classification.chain or (report.classification.reason,)
    return _ARROW.join(escape(link) for link in links)


def _outcome(outcome: Outcome) -> Iterator[str]:
    for action in outcome.actions:
        yield f"  did: {escape(action)}"
    yield f"  {outcome.result}: {escape(outcome.reason, 400)}"


def _commands(step: Step, outcome: Outcome | None, known: str) -> Iterator[str]:
    advice = isinstance(step, AdviseStep)
    ended = outcome is not None and outcome.result is Result.DONE
    if advice and step.why not in known:
        yield f"  left alone: {escape(step.why, 400)}"
    if not ended:
        hidden = isinstance(step, AdviseStep) and step.verdict is Verdict.HIDDEN
        label = "with more privilege" if hidden else "to free it"
        for command in step.commands:
            yield f"  {label}: {shown(command)}"
    if ended or advice:
        for command in step.undo:
            yield f"  to bring it back: {shown(command)}"
