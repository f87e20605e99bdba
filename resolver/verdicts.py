"""What is true of each port before anything is done, the whole report, and its exit status. Pure.

What became of the ports once steps were applied is in `rounds`, which builds on this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from resolver.model import (
    AdviseStep,
    ExitStatus,
    HolderReport,
    Kind,
    PortReport,
    PortRequest,
    Report,
    Result,
    Scan,
    SocketState,
    Verdict,
)
from resolver.shell import join

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from resolver.model import Diagnosis, Outcome, Plan, Policy, Proof, Snapshot, Step

_REUSED = "free for most servers (with SO_REUSEADDR); one that binds plainly waits for their end"
_STATUS = {
    Verdict.FREE: ExitStatus.FREE,
    Verdict.RESERVED: ExitStatus.FREE,
    Verdict.FREED: ExitStatus.FREE,
    Verdict.WOULD_FREE: ExitStatus.FREE,
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
_NARROW = "owners were looked for in the cgroup of each socket; --complete looks into every process"
_SPARED = "{} was not queried (not needed): every owner is known; --complete queries it"


def report(command: str, ports: Sequence[PortReport], snapshot: Snapshot) -> Report:
    """The whole answer; its status is the worst of its ports', in the documented order."""
    statuses = {_status(command, port.verdict) for port in ports}
    namespaces = tuple(_namespaces(snapshot))
    return Report(
        command,
        tuple(replace(port, notes=(*port.notes, *namespaces)) for port in ports),
        notes=(*snapshot.notes, *_without_engines(ports, snapshot)),
        verbose_notes=tuple(_verbose_notes(snapshot)),
        scan=snapshot.scan,
        exit_status=next((each for each in _WORST_FIRST if each in statuses), ExitStatus.FREE),
        engines=snapshot.engines,
    )


def _status(command: str, verdict: Verdict) -> ExitStatus:
    """`who` succeeds when it could answer, whatever the answer."""
    answered = command == "who" and verdict is Verdict.HELD
    return ExitStatus.FREE if answered else _STATUS[verdict]


def _namespaces(snapshot: Snapshot) -> Iterator[str]:
    """For which namespaces an answer holds, where there is more than ours."""
    for engine in snapshot.engines:
        if engine.chosen and engine.elsewhere:
            yield (
                "this answers for two places: the network namespace of this command, and the ports "
                f"that {engine.endpoint} publishes in another one ({engine.elsewhere}); there, its "
                "containers are seen, and no other process"
            )


def _without_engines(ports: Iterable[PortReport], snapshot: Snapshot) -> Iterator[str]:
    """Which engines should have answered, and did not, where containers may be missing for it.

    One that refuses this user could explain only what nothing else does; of one that was chosen and
    is not asked for somebody else's sake, whoever chose it wants to know.
    """
    open_question = any(map(_may_be_a_containers, ports))
    errors = dict.fromkeys(
        engine.error
        for engine in snapshot.engines
        if engine.error
        and not engine.unremarkable
        and (open_question or not (engine.forbidden and engine.asked))
    )
    if errors:
        others = any(engine.answered for engine in snapshot.engines)
        missing = "its containers" if others and len(errors) == 1 else "containers"
        yield f"partial answer, without {missing}: {joined(errors)}"


def _may_be_a_containers(port: PortReport) -> bool:
    """Whether a port has a holder that an engine would explain, or none that is seen."""
    if not port.holders:
        return port.verdict is not Verdict.FREE
    found = [each.classification for each in port.holders]
    engines_may_tell = {Kind.HIDDEN, Kind.FORWARDER, Kind.UNKNOWN, Kind.REDIRECT}
    return any(
        each.kind in engines_may_tell
        or (each.holder.container and not each.holder.container.engine)
        for each in found
    )


def _verbose_notes(snapshot: Snapshot) -> Iterator[str]:
    """What was not looked at, with good reason."""
    for engine in snapshot.engines:
        if engine.error and (engine.unremarkable or engine.forbidden):
            yield engine.error
    if snapshot.scan is Scan.CGROUP:
        yield _NARROW
    for engine in snapshot.engines:
        if not (engine.asked or engine.error):
            yield _SPARED.format(engine.title)


def refused(command: str, requests: Iterable[PortRequest], reason: str) -> Report:
    """The answer where nothing was even begun."""
    ports = tuple(PortReport(request, Verdict.REFUSED, reason) for request in requests)
    return Report(command, ports, exit_status=ExitStatus.ADVISED)


def held_requests(plan: Plan) -> tuple[PortRequest, ...]:
    """A request for every port that anything serves or publishes, sorted."""
    holders = [planned.holder for planned in plan.planned]
    held = [each.binding for each in holders if each.state is not SocketState.CONNECTED]
    return tuple(sorted({PortRequest(each.port, each.transport) for each in held}))


def holders_of(
    request: PortRequest, plan: Plan, outcomes: Sequence[Outcome] = ()
) -> tuple[HolderReport, ...]:
    """The planned holders of one requested port, each with how its step ended, if it was applied.

    A port's number is compared first: this is asked for a thousand ports with a holder each.
    """
    holders = ((each, each.holder) for each in plan.planned)
    return tuple(
        HolderReport(each.classification, each.step, _outcome_of(each.step, outcomes))
        for each, held in holders
        if held.binding.port == request.port and request.meets(held.binding, v6only=held.v6only)
    )


def _outcome_of(step: Step, outcomes: Iterable[Outcome]) -> Outcome | None:
    return next((outcome for outcome in outcomes if outcome.step is step), None)


def of_no_container(requests: Iterable[PortRequest], plan: Plan) -> list[PortRequest]:
    """The requested ports that no container has: what serves them inside of one is no neighbour."""
    return [
        request
        for request in requests
        if not any(each.holder.container for each in holders_of(request, plan))
    ]


def diagnosed(
    request: PortRequest, diagnosis: Diagnosis, proof: Proof | None, policy: Policy
) -> PortReport:
    """For `who`: held, and by whom; or free; or why that cannot be said."""
    found = planned(request, diagnosis, proof, policy)
    if found.holders and found.verdict is not Verdict.FREE:
        found = replace(found, reason=joined(e.classification.reason for e in found.holders))
    hidden = [each.holder.hidden is not None for each in found.holders]
    known = bool(hidden) and not any(hidden)  # by name, even where this user may not touch them
    if found.verdict in {Verdict.ADVISED, Verdict.REFUSED, Verdict.WOULD_FREE} or (
        known and found.verdict is Verdict.HIDDEN
    ):
        return replace(found, verdict=Verdict.HELD)
    if found.verdict is Verdict.HIDDEN and proof and proof.free is None and not found.holders:
        reason = f"nothing holds it; not checked by binding it: {proof.reason}"
        return replace(found, verdict=Verdict.FREE, reason=reason)
    return found


def planned(
    request: PortRequest, diagnosis: Diagnosis, proof: Proof | None, policy: Policy
) -> PortReport:
    """The state before anything is done, and whether it would be free after that."""
    holders = holders_of(request, diagnosis.plan)
    blocking = [each for each in holders if is_in_the_way(each, proof)]
    verdict, reason = (
        blocked(blocking, Verdict.WOULD_FREE)
        if blocking
        else unexplained(request, diagnosis.snapshot, proof, policy)
    )
    return PortReport(request, verdict, reason, holders, notes=lingering_notes(proof))


def is_in_the_way(held: HolderReport, proof: Proof | None) -> bool:
    """A port that could be bound is free, whoever has a socket nearby, except for an engine's."""
    if proof is None or not proof.free:
        return True
    return held.holder.state in {SocketState.PUBLISHED, SocketState.REDIRECTED}


def blocked(
    holders: Sequence[HolderReport], untouched: Verdict = Verdict.HELD
) -> tuple[Verdict, str]:
    """What holders that are in the way make of a port: the worst of them, and why, each once.

    `untouched` is what one makes of it whose step was not applied.
    """
    verdicts = (_blocks(each) if each.outcome else _left(each, untouched) for each in holders)
    worst = min(verdicts, key=lambda verdict: _WORST_FIRST.index(_STATUS[verdict]))
    return worst, joined(map(_why, holders))


def _blocks(held: HolderReport) -> Verdict:
    denied = held.outcome is not None and held.outcome.result is Result.NOT_PERMITTED
    return Verdict.HIDDEN if denied else Verdict.HELD


def _left(held: HolderReport, untouched: Verdict) -> Verdict:
    return held.step.verdict if isinstance(held.step, AdviseStep) else untouched


def _why(held: HolderReport) -> str:
    planned = held.step.why if held.step else ""
    return held.outcome.reason or planned if held.outcome else planned


def joined(reasons: Iterable[str]) -> str:
    """Each reason once."""
    return "; ".join(dict.fromkeys(reasons))


def unexplained(
    request: PortRequest, snapshot: Snapshot, proof: Proof | None, policy: Policy
) -> tuple[Verdict, str]:
    """No holder is in the way: the port is free, or held in a way that cannot be seen from here."""
    if proof is None or proof.free:
        return Verdict.FREE, "checked by binding it" if proof else "nothing holds it"
    if proof.free is None:
        return Verdict.HIDDEN, _or_with_sudo(proof.reason, policy)
    used = f"{proof.where} is in use"
    if silent := snapshot.silent_engine:
        return Verdict.UNDECIDED, f"{used}, nothing here explains it, and {silent.error}"
    if policy.euid:
        return Verdict.HIDDEN, _or_with_sudo(f"{used}, and this user cannot see by whom", policy)
    closing = [each.binding for each in snapshot.sockets if each.state is SocketState.CLOSING]
    if any(map(request.meets, closing)):
        port = request.typed
        wait = join(("ultra-ports", "wait", port, "--until", "free", "--timeout", "90"))
        lasts = "(TIME_WAIT); they last up to 60 s"
        return Verdict.HELD, f"{used} by closed connections {lasts}; to wait for it: {wait}"
    return Verdict.HELD, f"{used}, by nothing that has a process"


def _or_with_sudo(reason: str, policy: Policy) -> str:
    again = join(("sudo", *policy.rerun_command))
    return f"{reason}; run: {again}" if policy.euid else reason


def lingering_notes(proof: Proof | None) -> tuple[str, ...]:
    """What connections a port is still used by, though it could be bound; empty for no proof."""
    return (f"{proof.lingering}: {_REUSED}",) if proof and proof.lingering else ()
