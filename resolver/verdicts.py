"""Diagnosis, outcomes and proofs → what is true of each port. Pure; the exit status follows."""

from __future__ import annotations

from resolver.model import (
    AdviseStep,
    ExitStatus,
    HolderReport,
    PortReport,
    PortRequest,
    Report,
    Result,
    Scan,
    SocketState,
    StopContainerStep,
    Verdict,
)
from resolver.shell import join
from resolver.values import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from resolver.model import (
        Diagnosis,
        Holder,
        Outcome,
        Plan,
        Planned,
        Policy,
        Proof,
        Snapshot,
        Step,
    )

_REUSED = "bound with SO_REUSEADDR, as most servers do; one that does not has to wait"
_STATUS = {
    Verdict.FREE: ExitStatus.FREE,
    Verdict.FREED: ExitStatus.FREE,
    Verdict.HELD: ExitStatus.HELD,
    Verdict.RETAKEN: ExitStatus.HELD,
    Verdict.ADVISED: ExitStatus.ADVISED,
    Verdict.REFUSED: ExitStatus.ADVISED,
    Verdict.HIDDEN: ExitStatus.HIDDEN,
    Verdict.UNDECIDED: ExitStatus.UNDECIDED,
}
_WORST_FIRST = (
    ExitStatus.HELD,
    ExitStatus.UNDECIDED,
    ExitStatus.HIDDEN,
    ExitStatus.ADVISED,
    ExitStatus.FREE,
)
_NARROW = {
    Scan.CGROUP: "owners were looked for in the cgroup of each socket",
}
_SPARED = "{} was not asked: every owner is known, none works for an engine; --complete asks it"
_CHANGED = {Result.DONE, Result.GONE}


def report(command: str, ports: Sequence[PortReport], snapshot: Snapshot) -> Report:
    """The whole answer; its status is the worst of its ports', in the documented order."""
    statuses = {_status(command, port.verdict) for port in ports}
    worst = next((status for status in _WORST_FIRST if status in statuses), ExitStatus.FREE)
    troubles = [engine for engine in snapshot.engines if engine.trouble]
    places = tuple(_places(snapshot))
    return Report(
        command,
        tuple(replace(port, notes=(*port.notes, *places)) for port in ports),
        notes=(
            *snapshot.notes,
            *(
                f"partial answer, without containers: {engine.trouble}"
                for engine in troubles
                if not engine.unremarkable
            ),
        ),
        asides=(
            *(engine.trouble or "" for engine in troubles if engine.unremarkable),
            *(
                f"{where}; --complete looks into every process"
                for scan, where in _NARROW.items()
                if scan is snapshot.scan
            ),
            *(
                _SPARED.format(engine.endpoint)
                for engine in snapshot.engines
                if not (engine.asked or engine.trouble)
            ),
        ),
        scan=snapshot.scan,
        exit_status=worst,
        engines=snapshot.engines,
    )


def _places(snapshot: Snapshot) -> Iterator[str]:
    """For which namespaces an answer holds, where there is more than ours."""
    for engine in snapshot.engines:
        if engine.chosen and engine.elsewhere:
            yield (
                "this answers for two places: the network namespace of this command, and the ports "
                f"that {engine.endpoint} publishes in another one ({engine.elsewhere}); there, its "
                "containers are seen, and no other process"
            )


def refused(command: str, requests: Iterable[PortRequest], reason: str) -> Report:
    """The answer where nothing was even begun."""
    ports = tuple(PortReport(request, Verdict.REFUSED, reason) for request in requests)
    return Report(command, ports, exit_status=ExitStatus.ADVISED)


def _status(command: str, verdict: Verdict) -> ExitStatus:
    """`who` succeeds when it could answer, whatever the answer."""
    answered = command == "who" and verdict is Verdict.HELD
    return ExitStatus.FREE if answered else _STATUS[verdict]


def held_requests(plan: Plan) -> tuple[PortRequest, ...]:
    """A request for every port that anything serves or publishes, sorted."""
    return tuple(
        sorted(
            {
                PortRequest(each.binding.port, each.binding.transport)
                for each in _holders(plan)
                if each.state is not SocketState.CONNECTED
            }
        )
    )


def _holders(plan: Plan) -> Iterable[Holder]:
    return (planned.classification.holder for planned in plan.planned)


def diagnosed(
    request: PortRequest,
    diagnosis: Diagnosis,
    proof: Proof | None,
    policy: Policy,
    remarks: tuple[str, ...] = (),
) -> PortReport:
    """For `who`: held, and by whom; or free; or why that cannot be said."""
    found = planned(request, diagnosis, proof, policy)
    found = replace(found, notes=(*found.notes, *remarks))
    if found.holders and found.verdict is not Verdict.FREE:
        reasons = [each.classification.reason for each in found.holders]
        found = replace(found, reason="; ".join(dict.fromkeys(reasons)))
    if found.verdict in {Verdict.ADVISED, Verdict.REFUSED}:
        return replace(found, verdict=Verdict.HELD)
    if found.verdict is Verdict.HIDDEN and _known_owner(found):
        return replace(found, verdict=Verdict.HELD)
    if found.verdict is Verdict.HIDDEN and proof and proof.free is None and not found.holders:
        reason = f"nothing holds it; not bound for proof: {proof.reason}"
        return replace(found, verdict=Verdict.FREE, reason=reason)
    return found


def _known_owner(found: PortReport) -> bool:
    """Whether every holder is known by name, even where this user may not touch it."""
    return bool(found.holders) and all(
        each.classification.holder.hidden is None for each in found.holders
    )


def planned(
    request: PortRequest, diagnosis: Diagnosis, proof: Proof | None, policy: Policy
) -> PortReport:
    """The state before anything is done; what would be ended counts as held."""
    relevant = holders_of(request, diagnosis.plan)
    reports = tuple(HolderReport(each.classification, each.step) for each in relevant)
    in_the_way = [each for each in relevant if _in_the_way(each, proof)]
    if not in_the_way:
        return _unexplained(request, diagnosis.snapshot, proof, policy, reports)
    verdict = _worst(
        each.step.verdict if isinstance(each.step, AdviseStep) else Verdict.HELD
        for each in in_the_way
    )
    return PortReport(request, verdict, _reasons(in_the_way), reports, notes=_notes(proof))


def applied(
    request: PortRequest,
    before: Diagnosis,
    outcomes: Sequence[Outcome],
    proof: Proof,
    after: Diagnosis,
    policy: Policy,
) -> PortReport:
    """The state after one round of steps."""
    relevant = holders_of(request, before.plan)
    by_step = {outcome.step: outcome for outcome in outcomes}
    reports = tuple(
        HolderReport(each.classification, each.step, by_step.get(each.step)) for each in relevant
    )
    if not relevant:
        return _unexplained(request, before.snapshot, proof, policy, ())
    done = [outcome for outcome in outcomes if outcome.step in {each.step for each in relevant}]
    takers = _takers(request, before, after, done) if any(changed(each) for each in done) else ()
    if takers:
        reason = f"taken back by {_names(takers)}"
        return PortReport(request, Verdict.RETAKEN, reason, reports, takers, _notes(proof))
    open_steps = [each for each in relevant if _still_in_the_way(each, by_step, proof)]
    if open_steps:
        verdict = _worst(_verdict_of(each, by_step) for each in open_steps)
        reason = _reasons(open_steps, by_step)
        return PortReport(request, verdict, reason, reports, notes=_notes(proof))
    if not proof.free:
        latest = after.snapshot if after.snapshot.sockets else before.snapshot
        remaining = _unexplained(request, latest, proof, policy, reports)
        return replace(remaining, holders=reports)
    if doubt := _doubt(request, before, after, outcomes):
        return PortReport(request, *doubt, reports, notes=_notes(proof))
    return _freed(request, before, done, reports, proof)


def _doubt(
    request: PortRequest, before: Diagnosis, after: Diagnosis, outcomes: Sequence[Outcome]
) -> tuple[Verdict, str] | None:
    """What stands against "freed", where only an engine can tell; None where nothing does."""
    if not on_the_engines_word(request, before, outcomes):
        return None
    still = [
        each.classification.reason
        for each in holders_of(request, after.plan)
        if each.classification.holder.state is SocketState.PUBLISHED
    ]
    if still:
        return Verdict.HELD, f"told to stop, and the port is still published by {', '.join(still)}"
    asked = {each.classification.holder.container for each in holders_of(request, before.plan)}
    endpoints = {container.engine for container in asked if container}
    for engine in after.snapshot.engines:
        if engine.trouble and engine.endpoint in endpoints:
            return Verdict.UNDECIDED, f"stopped, but asked once more, {engine.trouble}"
    return None


def _freed(
    request: PortRequest,
    before: Diagnosis,
    done: list[Outcome],
    reports: tuple[HolderReport, ...],
    proof: Proof,
) -> PortReport:
    ended = [outcome for outcome in done if outcome.result is Result.DONE]
    if ended:
        reason = "; ".join(outcome.reason for outcome in ended)
        notes = (*_notes(proof), *_words(reports, before.snapshot))
        return PortReport(request, Verdict.FREED, reason, reports, notes=notes)
    return PortReport(
        request, Verdict.FREE, "its holder had already gone", reports, notes=_notes(proof)
    )


def continued(earlier: PortReport | None, found: PortReport) -> PortReport:
    """A later round's report, with what happened in the rounds before it."""
    if earlier is None:
        return found
    settled = found.verdict in {Verdict.FREE, Verdict.FREED, Verdict.RETAKEN}
    if earlier.verdict is Verdict.RETAKEN and not settled:
        return replace(  # what took it back is left alone, and something was touched before
            found,
            verdict=Verdict.RETAKEN,
            reason=f"{earlier.reason}; {found.reason}",
            holders=earlier.holders,
            retaken_by=found.holders,
            notes=tuple(dict.fromkeys((*earlier.notes, *found.notes))),
        )
    retaken = (f"it was {earlier.reason}",) if earlier.verdict is Verdict.RETAKEN else ()
    story = (*earlier.notes, *retaken)
    return replace(
        found,
        verdict=Verdict.FREED if found.verdict is Verdict.FREE else found.verdict,
        holders=earlier.holders + found.holders,
        notes=tuple(dict.fromkeys((*story, *found.notes))),
    )


def holders_of(request: PortRequest, plan: Plan) -> list[Planned]:
    """The planned holders that have to do with one requested port."""
    return [
        each
        for each in plan.planned
        if request.meets(
            each.classification.holder.binding, v6only=each.classification.holder.v6only
        )
    ]


def of_no_container(requests: Iterable[PortRequest], plan: Plan) -> list[PortRequest]:
    """The requested ports that no container has: what serves them inside of one is no neighbour."""
    return [
        request
        for request in requests
        if not any(each.classification.holder.container for each in holders_of(request, plan))
    ]


def on_the_engines_word(
    request: PortRequest, before: Diagnosis, outcomes: Sequence[Outcome]
) -> bool:
    """Whether a published port without a socket here was worked on: only its engine can tell."""
    worked = {outcome.step for outcome in outcomes if changed(outcome)}
    return any(
        each.step in worked and each.classification.holder.state is SocketState.PUBLISHED
        for each in holders_of(request, before.plan)
    )


def _in_the_way(each: Planned, proof: Proof | None) -> bool:
    """A port that could be bound is free, whoever has a socket nearby, except for an engine's."""
    if proof is None or not proof.free:
        return True
    return each.classification.holder.state in {SocketState.PUBLISHED, SocketState.REDIRECTED}


def _still_in_the_way(each: Planned, by_step: dict[Step, Outcome], proof: Proof) -> bool:
    outcome = by_step.get(each.step)
    if outcome is not None and changed(outcome):
        return False
    return _in_the_way(each, proof)


def changed(outcome: Outcome) -> bool:
    """Whether a step left its holder gone."""
    return outcome.result in _CHANGED


def _verdict_of(each: Planned, by_step: dict[Step, Outcome]) -> Verdict:
    if isinstance(each.step, AdviseStep):
        return each.step.verdict
    outcome = by_step.get(each.step)
    not_permitted = outcome is not None and outcome.result is Result.NOT_PERMITTED
    return Verdict.HIDDEN if not_permitted else Verdict.HELD


def _worst(verdicts: Iterable[Verdict]) -> Verdict:
    return min(verdicts, key=lambda verdict: _WORST_FIRST.index(_STATUS[verdict]))


def _reasons(relevant: Iterable[Planned], by_step: dict[Step, Outcome] | None = None) -> str:
    found = []
    for each in relevant:
        outcome = (by_step or {}).get(each.step)
        found.append(outcome.reason if outcome and outcome.reason else each.step.why)
    return "; ".join(dict.fromkeys(found))


def _unexplained(
    request: PortRequest,
    snapshot: Snapshot,
    proof: Proof | None,
    policy: Policy,
    reports: tuple[HolderReport, ...],
) -> PortReport:
    """No holder is in the way: the port is free, or held in a way that cannot be seen from here."""
    if proof is None or proof.free:
        reason = "bound for proof" if proof else "nothing holds it"
        return PortReport(request, Verdict.FREE, reason, reports, notes=_notes(proof))
    if proof.free is None:
        return PortReport(request, Verdict.HIDDEN, _and_sudo(proof.reason, policy), reports)
    silent = next((engine for engine in snapshot.engines if engine.silent), None)
    if silent:
        reason = f"{proof.where} is in use, nothing here explains it, and {silent.trouble}"
        return PortReport(request, Verdict.UNDECIDED, reason, reports)
    if policy.euid:
        reason = f"{proof.where} is in use, and this user cannot see by whom"
        return PortReport(request, Verdict.HIDDEN, _and_sudo(reason, policy), reports)
    reason = f"{proof.where} is in use, by nothing that has a process"
    if any(
        entry.state is SocketState.CLOSING and request.meets(entry.binding)
        for entry in snapshot.sockets
    ):
        reason = f"{proof.where} is in use by closed connections (TIME_WAIT); they last up to 60 s"
    return PortReport(request, Verdict.HELD, reason, reports)


def _and_sudo(reason: str, policy: Policy) -> str:
    again = join(("sudo", *policy.again))
    return f"{reason}; with more privilege: {again}" if policy.euid else reason


def _takers(
    request: PortRequest, before: Diagnosis, after: Diagnosis, outcomes: Sequence[Outcome]
) -> tuple[HolderReport, ...]:
    """Holders that were not there before the steps; connections were, behind the server.

    A container that was stopped, and publishes the port again, was started again.
    """
    stopped = {
        outcome.step
        for outcome in outcomes
        if changed(outcome) and isinstance(outcome.step, StopContainerStep)
    }
    known = {
        _end(each)
        for each in holders_of(request, before.plan)
        if each.step not in stopped or each.classification.holder.state is not SocketState.PUBLISHED
    }
    return tuple(
        HolderReport(each.classification, each.step)
        for each in holders_of(request, after.plan)
        if _end(each) not in known and each.classification.holder.state is not SocketState.CONNECTED
    )


def _end(each: Planned) -> object:
    holder = each.classification.holder
    return holder.masters or (holder.container.id if holder.container else holder.hidden)


def _names(takers: Iterable[HolderReport]) -> str:
    found = []
    for each in takers:
        chain = each.classification.chain
        starter = f", started by {chain[-2]}" if len(chain) > 1 else ""
        holder = each.classification.holder
        found.append(f"{holder.master or each.classification.reason}{starter}")
    return " and ".join(dict.fromkeys(found))


def _notes(proof: Proof | None) -> tuple[str, ...]:
    return (f"{proof.lingering}: {_REUSED}",) if proof and proof.lingering else ()


def _words(reports: Iterable[HolderReport], snapshot: Snapshot) -> tuple[str, ...]:
    """Which engines' word a port's freedom rests on, since it was not here to be bound."""
    away = {engine.endpoint for engine in snapshot.engines if engine.elsewhere}
    published = [
        each.classification.holder.container
        for each in reports
        if each.classification.holder.state is SocketState.PUBLISHED
    ]
    endpoints = sorted({found.engine for found in published if found and found.engine in away})
    return tuple(
        f"on the word of {endpoint}, asked again after the settle time: the port was not in this "
        "namespace to be bound"
        for endpoint in endpoints
    )
