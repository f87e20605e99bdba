"""What a round of steps touched, and whether another one could help. Pure."""

from __future__ import annotations

from resolver.model import KillStep, Result, StopServiceStep, Verdict
from resolver.verdicts import changed, holders_of, on_the_engines_word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from resolver.model import Diagnosis, Outcome, PortReport, PortRequest, Process, Proof


def unsure(
    requests: Iterable[PortRequest],
    before: Diagnosis,
    outcomes: Sequence[Outcome],
    proofs: Mapping[PortRequest, Proof],
) -> list[PortRequest]:
    """Held ports that need another look: worked on in vain, or with a holder that came meanwhile.

    An engine that did not answer is not asked again for a port that nothing local explains.
    """
    silent = any(engine.silent for engine in before.snapshot.engines)
    return [
        request
        for request in requests
        if on_the_engines_word(request, before, outcomes)
        or (
            proofs[request].free is False
            and (touched(request, outcomes) or not (silent or holders_of(request, before.plan)))
        )
    ]


def is_open(found: PortReport, after: Diagnosis) -> bool:
    """Whether another round could help: the port was taken back, or its holder changed."""
    if found.verdict in {Verdict.FREE, Verdict.FREED}:
        return False
    known = {each.classification.holder for each in found.holders}
    return any(
        each.classification.holder not in known for each in holders_of(found.request, after.plan)
    )


def touched(request: PortRequest, outcomes: Iterable[Outcome]) -> bool:
    """Whether any step that changed something had to do with this port."""
    return any(
        request.meets(binding)
        for outcome in outcomes
        if outcome.result is not Result.SKIPPED
        for binding in outcome.step.bindings
    )


def ended_processes(outcomes: Iterable[Outcome]) -> tuple[Process, ...]:
    """The masters that were ended: what takes the port back may have the same parent."""
    return tuple(
        process
        for outcome in outcomes
        if isinstance(outcome.step, KillStep) and changed(outcome)
        for process in outcome.step.masters
    )


def patience_seconds(outcomes: Iterable[Outcome]) -> float:
    """How long managers may go on stopping after their commands have returned."""
    return max(
        (
            outcome.step.manager.patience_seconds
            for outcome in outcomes
            if isinstance(outcome.step, StopServiceStep) and changed(outcome)
        ),
        default=0.0,
    )


def ended_inodes(diagnosis: Diagnosis, outcomes: Iterable[Outcome]) -> frozenset[int]:
    """The sockets that should be gone now."""
    bindings = {
        binding for outcome in outcomes if changed(outcome) for binding in outcome.step.bindings
    }
    owned = {
        (holder.binding, process.identity)
        for holder in (each.classification.holder for each in diagnosis.plan.planned)
        for process in holder.processes
    }
    return frozenset(
        entry.inode
        for entry in diagnosis.snapshot.sockets
        if entry.inode > 0
        and entry.binding in bindings
        and any((entry.binding, owner) in owned for owner in entry.owners)
    )
