"""Holders that end together share one step. PURE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from resolver.model import AdviseStep, KillStep, Planned, StopContainerStep, StopServiceStep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.model import Binding, Step


def merged(chosen: Sequence[Planned]) -> list[Planned]:
    """The same, with one step for all holders that end together."""
    together: dict[object, list[Planned]] = {}
    for planned in chosen:
        together.setdefault(_end(planned.step), []).append(planned)
    joined = {key: _join([each.step for each in group]) for key, group in together.items()}
    return [Planned(each.classification, joined[_end(each.step)]) for each in chosen]


def _end(step: Step) -> object:
    """What is ended by a step: steps with the same end are one."""
    match step:
        case KillStep():
            return ("kill", tuple(found.identity for found in step.masters))
        case StopContainerStep():
            return ("container", step.container.engine, step.container.id)
        case StopServiceStep():
            then = _end(step.then) if step.then else None
            return ("service", step.manager.account, step.manager.stop, then)
        case AdviseStep():
            return ("advise", step.verdict, step.why, step.commands, step.undo)


def _join(steps: Sequence[Step]) -> Step:
    bindings = tuple(sorted({binding for step in steps for binding in step.bindings}))
    first = steps[0]
    if isinstance(first, KillStep):
        return _join_kills([step for step in steps if isinstance(step, KillStep)], bindings)
    if isinstance(first, StopContainerStep):
        stops = [step for step in steps if isinstance(step, StopContainerStep)]
        gentle = next((step for step in stops if step.lenient), first)
        return replace(gentle, bindings=bindings)
    if isinstance(first, StopServiceStep) and first.then:
        thens = [step.then for step in steps if isinstance(step, StopServiceStep) and step.then]
        then = _join(thens)
        if isinstance(then, (KillStep, StopContainerStep)):
            return replace(first, bindings=bindings, then=then)
    return replace(first, bindings=bindings)


def _join_kills(kills: Sequence[KillStep], bindings: tuple[Binding, ...]) -> KillStep:
    """What ends the same processes: for all ports, and as gently as any of them asks."""
    gentle = next((step for step in kills if step.lenient), kills[0])
    members = {found.identity: found for step in kills for found in step.members}
    return replace(
        kills[0],
        bindings=bindings,
        shutdown=gentle.shutdown,
        lenient=gentle.lenient,
        members=tuple(members.values()),
        inodes=frozenset(inode for step in kills for inode in step.inodes),
        respawners=frozenset(each for step in kills for each in step.respawners),
        patience_seconds=max(step.patience_seconds for step in kills),
    )
