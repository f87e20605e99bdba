"""READ FIRST. gather → classify → plan → apply → verify, for all requested ports at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver import verdicts, verify
from resolver.classify import classify
from resolver.gather import gather
from resolver.gather.holders import holders
from resolver.model import Diagnosis
from resolver.strategies import apply
from resolver.strategies.choose import choose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resolver.model import Outcome, Policy, PortReport, PortRequest, Proof, Report
    from resolver.strategies import Effects


def who(requests: Sequence[PortRequest] | None, policy: Policy, effects: Effects) -> Report:
    """Says who holds the requested ports, and what would free them; touches nothing.

    `requests` None asks for every port that is held now.
    """
    proofs = {} if requests is None else _prove(requests, effects)
    diagnosis = _diagnose(requests, proofs, policy, effects)
    asked = verdicts.held_requests(diagnosis.plan) if requests is None else requests
    ports = [verdicts.diagnosed(each, diagnosis, proofs.get(each), policy) for each in asked]
    return verdicts.report("who", ports, diagnosis.snapshot)


def resolve(requests: Sequence[PortRequest], policy: Policy, effects: Effects) -> Report:
    """Frees the requested ports where that does no harm, and proves it by binding them.

    A port that is taken back is worked on again, up to `policy.rounds` times.
    """
    proofs = _prove(requests, effects)
    diagnosis = first = _diagnose(requests, proofs, policy, effects)
    if policy.dry_run:
        ports = [verdicts.planned(each, diagnosis, proofs[each], policy) for each in requests]
        return replace(verdicts.report("resolve", ports, first.snapshot), dry_run=True)
    done: dict[PortRequest, PortReport] = {}
    pending = list(requests)
    for _ in range(policy.rounds):
        outcomes = apply(diagnosis.plan, policy, effects)
        proofs |= _settle(pending, diagnosis, outcomes, policy, effects)
        unsure = verdicts.unsure(pending, diagnosis, outcomes, proofs)
        after = _diagnose(unsure, proofs, policy, effects)
        for each in pending:
            found = verdicts.applied(each, diagnosis, outcomes, proofs[each], after, policy)
            done[each] = verdicts.continued(done.get(each), found)
        pending = [each for each in pending if verdicts.is_open(done[each], after)]
        diagnosis = after
        if not pending:
            break
    return verdicts.report("resolve", [done[each] for each in requests], first.snapshot)


def _prove(requests: Sequence[PortRequest], effects: Effects) -> dict[PortRequest, Proof]:
    return {request: verify.prove(request, effects.list_sockets) for request in requests}


def _diagnose(
    requests: Sequence[PortRequest] | None,
    proofs: Mapping[PortRequest, Proof],
    policy: Policy,
    effects: Effects,
) -> Diagnosis:
    free = frozenset(request for request, proof in proofs.items() if proof.free)
    if requests is not None and (
        not requests or (free.issuperset(requests) and not policy.use_docker)
    ):
        return Diagnosis()
    snapshot = gather(requests, policy, free)
    found = classify(holders(snapshot, requests), snapshot, effects.run)
    return Diagnosis(snapshot, choose(found, policy, snapshot.own))


def _settle(
    requests: Sequence[PortRequest],
    diagnosis: Diagnosis,
    outcomes: Sequence[Outcome],
    policy: Policy,
    effects: Effects,
) -> dict[PortRequest, Proof]:
    """New proofs: what the outcomes touched is bound, watched, and bound once more."""
    touched = [each for each in requests if verdicts.touched(each, outcomes)]
    if not touched:
        return _prove(requests, effects)
    held = verdicts.ended_inodes(diagnosis, outcomes)
    verify.await_release(touched, held, effects.list_sockets, effects.clock)
    proofs = _prove(touched, effects)
    freed = [each for each in touched if proofs[each].free]
    if freed:
        verify.watch(freed, policy.settle_seconds, effects.list_sockets, effects.clock)
    return _prove(requests, effects)
