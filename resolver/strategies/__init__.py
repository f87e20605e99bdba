"""Strategies: choose a step for each holder, and apply it. The only room that changes anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.model import AdviseStep, KillStep, Outcome, Result, StopContainerStep, StopServiceStep
from resolver.strategies.kill import kill
from resolver.strategies.stop_container import stop_container
from resolver.strategies.stop_service import stop_service

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolver.model import Classification, Plan, Policy, Step
    from resolver.protocols import Clock, CommandRunner, Observer, Watcher


class Effects(Struct, frozen=True):
    """What the strategies reach the world through."""

    clock: Clock
    run: CommandRunner
    observer: Observer
    list_sockets: Watcher
    with_ownership: Callable[[tuple[Classification, ...]], tuple[Classification, ...]] = tuple


def apply(plan: Plan, policy: Policy, effects: Effects) -> tuple[Outcome, ...]:
    """Applies each step once, in order; what the observer objects to is skipped."""
    outcomes: list[Outcome] = []
    for step in plan.steps:
        if isinstance(step, AdviseStep):
            continue
        holders = [each.classification for each in plan.planned if each.step is step]
        if objection := effects.observer.objection(step, holders):
            outcome = Outcome(step, Result.SKIPPED, objection)
        else:
            effects.observer.started(step)
            outcome = _apply(step, policy, effects)
        effects.observer.finished(outcome)
        outcomes.append(outcome)
    return tuple(outcomes)


def _apply(step: Step, policy: Policy, effects: Effects) -> Outcome:
    """One strategy is one module."""
    match step:
        case KillStep():
            return kill(step, policy, effects)
        case StopContainerStep():
            return stop_container(step, policy, effects)
        case StopServiceStep():
            return _stop_service(step, policy, effects)
        case AdviseStep():
            return Outcome(step, Result.SKIPPED, step.why)


def _stop_service(step: StopServiceStep, policy: Policy, effects: Effects) -> Outcome:
    """A service that waits for the port is stopped first: it would take it at once."""
    stopped = stop_service(step, policy, effects)
    if step.then is None or stopped.result is not Result.DONE:
        return stopped
    ended = _apply(step.then, policy, effects)
    result = Result.DONE if ended.result is Result.GONE else ended.result
    reason = f"{stopped.reason}; {ended.reason}"
    return Outcome(step, result, reason, (*stopped.actions, *ended.actions))
