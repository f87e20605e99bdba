"""READ FIRST. gather → classify → plan → apply → verify, for all requested ports at once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from resolver import shell_jobs, successors, verdicts, verify
from resolver.gather import exposure, gather, hints
from resolver.gather.holders import holders
from resolver.model import Diagnosis, ExitStatus, KillStep
from resolver.rounds import Round
from resolver.settings import LONGER_SETTLE
from resolver.strategies import apply
from resolver.strategies.choose import choose, without_vain_steps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resolver.model import (
        Classification,
        Plan,
        Policy,
        PortReport,
        PortRequest,
        Process,
        Proof,
        Report,
        Snapshot,
        Step,
        Successor,
    )
    from resolver.strategies import Effects


def who(requests: Sequence[PortRequest] | None, policy: Policy, effects: Effects) -> Report:
    """Says who holds the requested ports, and what would free them; touches nothing.

    `requests` None asks for every port that is held now: a listing, which succeeds in any case.
    """
    proofs = {} if requests is None else prove(requests, effects)
    diagnosis = diagnose(requests, proofs, policy, effects)
    asked = verdicts.held_requests(diagnosis.plan) if requests is None else requests
    elsewhere = verdicts.of_no_container(asked, diagnosis.plan)
    about = hints.remarks(asked, elsewhere) if requests else {}
    to_keep = hints.to_keep(asked, policy.euid) if requests else {}
    ports = [
        replace(
            verdicts.diagnosed(each, diagnosis, proofs.get(each), policy),
            details=(*_exposure(each, diagnosis), *about.get(each, ())),
            to_keep=to_keep.get(each),
        )
        for each in asked
    ]
    found = verdicts.report("who", ports, diagnosis.snapshot)
    return found if requests is not None else replace(found, exit_status=ExitStatus.FREE)


def who_without_proof(requests: Sequence[PortRequest], policy: Policy, effects: Effects) -> Report:
    """The same of each port once, with none of them bound and no more said than who has it.

    A server that is just being started would fail on a port that is bound for a moment.
    """
    once = tuple(dict.fromkeys(requests))
    diagnosis = diagnose(once, {}, policy, effects)
    ports = [verdicts.diagnosed(each, diagnosis, None, policy) for each in once]
    return verdicts.report("who", ports, diagnosis.snapshot)


def _exposure(request: PortRequest, diagnosis: Diagnosis) -> tuple[str, ...]:
    """How old the holders of a port are, and from where they are reached."""
    found = verdicts.holders_of(request, diagnosis.plan)
    return exposure.remarks(each.holder for each in found)


def resolve(requests: Sequence[PortRequest], policy: Policy, effects: Effects) -> Report:
    """Frees the requested ports where that does no harm, and proves it by binding them.

    A port that is taken back is worked on again, up to `policy.rounds` times.
    """
    if policy.dry_run:
        return plan(requests, policy, effects)[0]
    proofs = prove(requests, effects)
    policy = replace(policy, complete=True)
    first = diagnose(requests, proofs, policy, effects)
    ports = carry_out(requests, proofs, first, policy, effects)
    return verdicts.report("resolve", ports, first.snapshot)


def plan(requests: Sequence[PortRequest], policy: Policy, effects: Effects) -> tuple[Report, Plan]:
    """Says what `resolve` would do; touches nothing."""
    proofs = prove(requests, effects)
    policy = replace(policy, complete=True)
    first = diagnose(requests, proofs, policy, effects)
    ports = [verdicts.planned(each, first, proofs[each], policy) for each in requests]
    return replace(verdicts.report("resolve", ports, first.snapshot), dry_run=True), first.plan


def carry_out(
    requests: Sequence[PortRequest],
    proofs: Mapping[PortRequest, Proof],
    diagnosis: Diagnosis,
    policy: Policy,
    effects: Effects,
) -> list[PortReport]:
    """Applies the plan, proves what came of it, and does so again where a port was taken back."""
    reports: dict[PortRequest, PortReport] = {}
    this = Round(tuple(requests), diagnosis, proofs)
    for number in range(policy.rounds):
        if this.before.plan.planned:
            settle_seconds = policy.settle_seconds * (1 if number == 0 else LONGER_SETTLE)
            this = _applied(this, settle_seconds, policy, effects)
        this = replace(this, proofs={**this.proofs, **prove(this.requests, effects)})
        ended = this.ended_processes
        this = replace(this, after=diagnose(this.to_diagnose, this.proofs, policy, effects, ended))
        reports |= this.reports(policy, reports)
        this = this.next(reports)
        if not this.requests:
            break
    return [reports[each] for each in requests]


def prove(requests: Sequence[PortRequest], effects: Effects) -> dict[PortRequest, Proof]:
    """Whether each port can be bound now."""
    return {request: verify.prove(request, effects.list_sockets) for request in requests}


def diagnose(
    requests: Sequence[PortRequest] | None,
    proofs: Mapping[PortRequest, Proof],
    policy: Policy,
    effects: Effects,
    ended: tuple[Process, ...] = (),
) -> Diagnosis:
    """One look at the machine, and what would be done; `proofs` spare it what could be bound."""
    free = frozenset(request for request, proof in proofs.items() if proof.free)
    if requests is not None and not requests:
        return Diagnosis()
    snapshot = replace(gather(requests, policy, free, effects.run), ended=ended)
    classified = _classified(requests, snapshot, effects)
    if not classified:
        return Diagnosis(snapshot)
    chosen = choose(classified, policy, snapshot.own)
    if requests is not None:
        chosen = without_vain_steps(chosen, [each for each in requests if each not in free])
    return Diagnosis(snapshot, chosen)


def _classified(
    requests: Sequence[PortRequest] | None, snapshot: Snapshot, effects: Effects
) -> tuple[Classification, ...]:
    """Every holder, with what it is and whose it is; where there is none, nothing is loaded."""
    if not (snapshot.sockets or snapshot.containers or snapshot.redirects):
        return ()
    found = holders(snapshot, requests)
    if not found:
        return ()
    from resolver.examine import examine

    return effects.with_ownership(examine(found, snapshot, effects.run))


def _applied(this: Round, settle_seconds: float, policy: Policy, effects: Effects) -> Round:
    """With what its steps came to: what was tried is bound, and watched with its family."""
    earlier, jobs = successors.before(), shell_jobs.before(this.before)
    starters = shell_jobs.starters(this.before)
    this = replace(this, outcomes=apply(this.before.plan, policy, effects))
    found: Mapping[Step, tuple[Successor, ...]] = {}
    shells: Mapping[Step, tuple[Process, ...]] = {}
    if tried := [each for each in this.requests if this.tried(each)]:
        held, patience = this.ended_inodes, this.patience_seconds
        verify.await_release(tried, held, effects.list_sockets, effects.clock, patience)
        proofs = prove(tried, effects)
        if freed := [each for each in tried if proofs[each].free]:
            verify.watch(freed, settle_seconds, effects.list_sockets, effects.clock)
            taken = partial(verify.taken, freed, effects.list_sockets)
            family = (_lineages(this, earlier), earlier, settle_seconds, effects.clock, taken)
            found = successors.watch(*family)
            ended = [each for each in jobs if each.step in this.ended_steps]
            here = [e for e in ended if not e.moved_on(found.get(e.step, ()))]
            if settle_seconds and here:
                watched = (freed, here, earlier.pids, effects.list_sockets, effects.clock)
                shells = shell_jobs.watch(*watched)
                found = successors.watch(*family) if shells else found
    living = {each.step: each.lives_on() for each in starters if each.step in this.ended_steps}
    return replace(this, successors=found, shells=shells, starters=living)


def _lineages(this: Round, earlier: successors.Before) -> dict[Step, successors.Lineage]:
    """What would follow those that were ended, by the step that ended them."""
    kills = (each for each in this.ended_steps if isinstance(each, KillStep))
    return {e: successors.Lineage(e.members, this.before.snapshot, earlier) for e in kills}
