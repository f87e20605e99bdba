"""What a round of steps achieved for each port, and whether another one could help. Pure."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from resolver.model import (
    Diagnosis,
    HolderReport,
    KillStep,
    PortReport,
    Result,
    SocketState,
    StopContainerStep,
    StopServiceStep,
    Verdict,
)
from resolver.verdicts import blocked, holders_of, is_in_the_way, lingering_notes, unexplained

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from resolver.model import Holder, Outcome, Policy, PortRequest, Process, Proof, Step, Successor

_CHANGED = {Result.DONE, Result.GONE}
_FREE = {Verdict.FREE, Verdict.FREED}


class Round(Struct, frozen=True):
    """One round: the plan of `before` is applied, ports are bound, and some are diagnosed again.

    It fills as it goes. `outcomes` say how each applied step ended; `proofs` are the latest, from
    before the steps and then from after them; `after` is the new diagnosis of the ports that are
    `to_diagnose`, empty where there are none. `successors` came in the place of what a step ended,
    on other ports; `shells` go on though a step ended what they had started, and `starters` are
    other programs that do. For each port, the first line that fits decides:

    ====  =====  =====  ====  =====  ======  =========================================  ======
    held  ended  taken  left  bound  engine  verdict                                    again?
    ====  =====  =====  ====  =====  ======  =========================================  ======
    no                        yes            FREE                                       no
    no                        no             `unexplained`, by the diagnosis before     if new
    yes   yes    yes                         RETAKEN                                    if new
    yes          no     yes                  the worst of what those who are left make  if new
    yes          no     no    no             `unexplained`, by the latest diagnosis     if new
    yes   yes    no     no    yes    yes     HELD where it is still published           if new
    yes   yes    no     no    yes    yes     UNDECIDED where its engine is silent       if new
    yes   yes    no     no    yes            FREED where a step was DONE                no
    yes          no     no    yes            FREE, its holder had already gone          no
    ====  =====  =====  ====  =====  ======  =========================================  ======

    held: anybody, before the steps. ended: a step left one of these gone. taken: by somebody who
    did not hold it. left: one whom no step ended is in the way. bound: by the latest proof.
    engine: one who was ended had no socket here. new: a holder is there that was not, or not so.
    """

    requests: tuple[PortRequest, ...]
    before: Diagnosis
    proofs: Mapping[PortRequest, Proof]
    outcomes: tuple[Outcome, ...] = ()
    after: Diagnosis = Diagnosis()
    successors: Mapping[Step, tuple[Successor, ...]] = MappingProxyType({})
    shells: Mapping[Step, tuple[Process, ...]] = MappingProxyType({})
    starters: Mapping[Step, Process | None] = MappingProxyType({})

    def holders_before(self, request: PortRequest) -> tuple[HolderReport, ...]:
        """Who held the port before the steps."""
        return holders_of(request, self.before.plan, self.outcomes)

    def holders_after(self, request: PortRequest) -> tuple[HolderReport, ...]:
        """Who holds it after them."""
        return holders_of(request, self.after.plan)

    def tried(self, request: PortRequest) -> bool:
        """Whether a step was applied that is for this port, be it in vain."""
        steps = (each.step for each in self.outcomes if each.result is not Result.SKIPPED)
        return any(request.meets(binding) for step in steps for binding in step.bindings)

    def ended(self, request: PortRequest) -> list[HolderReport]:
        """Whom a step left gone."""
        return list(filter(_has_ended, self.holders_before(request)))

    def left(self, request: PortRequest) -> list[HolderReport]:
        """Whom no step ended, and who keeps the port."""
        left = [each for each in self.holders_before(request) if not _has_ended(each)]
        return [each for each in left if is_in_the_way(each, self.proofs[request])]

    def takers(self, request: PortRequest) -> tuple[HolderReport, ...]:
        """Who came after a step had changed something; connections were there, behind the server.

        A container that was stopped, and publishes the port again, was started again.
        """
        if not (ended := self.ended(request)):
            return ()
        stopped = [each for each in _published(ended) if isinstance(each.step, StopContainerStep)]
        known = [_owner(each) for each in self.holders_before(request) if each not in stopped]
        serving = [e for e in self.holders_after(request) if _state(e) is not SocketState.CONNECTED]
        return tuple(each for each in serving if _owner(each) not in known)

    def only_an_engine_can_tell(self, request: PortRequest) -> bool:
        """Whether a holder was ended that had no socket here: to bind the port proves nothing."""
        return bool(_published(self.ended(request)))

    def has_newcomer(self, request: PortRequest) -> bool:
        """Whether a holder is there that was not before, or not like this."""
        known = [_seen(each) for each in self.holders_before(request)]
        return any(_seen(each) not in known for each in self.holders_after(request))

    @property
    def to_diagnose(self) -> list[PortRequest]:
        """Held ports that need another look: tried in vain, or with a holder that came meanwhile.

        An engine that did not answer is not asked again for a port that nothing local explains.
        """
        silent = self.before.snapshot.silent_engine
        held = [each for each in self.requests if self.proofs[each].free is False]
        unsure = {e for e in held if self.tried(e) or not (silent or self.holders_before(e))}
        return [e for e in self.requests if e in unsure or self.only_an_engine_can_tell(e)]

    @property
    def ended_steps(self) -> list[Step]:
        """The steps that left their holders gone."""
        return [each.step for each in self.outcomes if each.result in _CHANGED]

    @property
    def ended_processes(self) -> tuple[Process, ...]:
        """The masters that were ended so far: what takes a port back may have the same parent."""
        ended = self.ended_steps
        steps = [*ended, *(step.then for step in ended if isinstance(step, StopServiceStep))]
        kills = [step for step in steps if isinstance(step, KillStep)]
        return (*self.before.snapshot.ended, *(found for step in kills for found in step.masters))

    @property
    def ended_inodes(self) -> frozenset[int]:
        """The sockets that should be gone now; psutil's are below 0 where they are not known."""
        bindings = {binding for step in self.ended_steps for binding in step.bindings}
        holders = (each.holder for each in self.before.plan.planned)
        theirs = (each.inodes for each in holders if each.binding in bindings)
        return frozenset(inode for inodes in theirs for inode in inodes if inode > 0)

    @property
    def patience_seconds(self) -> float:
        """How long managers may go on stopping after their commands have returned."""
        steps = [step for step in self.ended_steps if isinstance(step, StopServiceStep)]
        return max((step.manager.patience_seconds for step in steps), default=0.0)

    def reports(
        self, policy: Policy, earlier: Mapping[PortRequest, PortReport]
    ) -> dict[PortRequest, PortReport]:
        """What is true of each port after this round, given the reports of those before it."""
        found = [self.report(each, policy) for each in self.requests]
        return {each.request: _continued(earlier.get(each.request), each) for each in found}

    def next(self, reports: Mapping[PortRequest, PortReport]) -> Round:
        """The round after this one, for the ports that it could help, if there are any."""
        held = (each for each in self.requests if reports[each].verdict not in _FREE)
        return Round(tuple(filter(self.has_newcomer, held)), self.after, self.proofs)

    def report(self, request: PortRequest, policy: Policy) -> PortReport:
        """What is true of a port by this round alone."""
        verdict, reason = self._verdict(request, policy)
        takers = self.takers(request) if verdict is Verdict.RETAKEN else ()
        notes = lingering_notes(self.proofs[request])
        found = PortReport(request, verdict, reason, self.holders_before(request), takers, notes)
        if verdict is not Verdict.FREED:
            return found
        steps = dict.fromkeys(each.step for each in self.ended(request) if each.step)
        moved_on = tuple(each for step in steps for each in self.successors.get(step, ()))
        shells = dict.fromkeys(each for step in steps for each in self.shells.get(step, ()))
        there = () if moved_on or shells else filter(None, map(self.starters.get, steps))
        living = dict.fromkeys(
            f"{each}, which started it, lives on: it may start it again" for each in there
        )
        notes = (*notes, *self._unproven(request), *map(str, moved_on), *map(_goes_on, shells))
        notes = (*notes, *living)
        return replace(found, notes=notes, successors=moved_on)

    def _verdict(self, request: PortRequest, policy: Policy) -> tuple[Verdict, str]:
        """The line of the table that fits, and why."""
        proof = self.proofs[request]
        if not self.holders_before(request):
            return unexplained(request, self.before.snapshot, proof, policy)
        if takers := self.takers(request):
            names = " and ".join(dict.fromkeys(map(_name, takers)))
            return Verdict.RETAKEN, f"taken back by {names}"
        if left := self.left(request):
            return blocked(left)
        if not proof.free:
            latest = self.after if self.after.snapshot.sockets else self.before
            return unexplained(request, latest.snapshot, proof, policy)
        return self._doubt(request) or self._freed(request)

    def _doubt(self, request: PortRequest) -> tuple[Verdict, str] | None:
        """What stands against "freed", where only an engine can tell; None where nothing does."""
        if not self.only_an_engine_can_tell(request):
            return None
        if published := _published(self.holders_after(request)):
            names = ", ".join(each.classification.reason for each in published)
            return Verdict.HELD, f"told to stop, and the port is still published by {names}"
        containers = [each.holder.container for each in self.holders_before(request)]
        asked = {container.engine for container in containers if container}
        for engine in self.after.snapshot.engines:
            if engine.error and engine.endpoint in asked:
                return Verdict.UNDECIDED, f"stopped, but asked once more, {engine.error}"
        return None

    def _freed(self, request: PortRequest) -> tuple[Verdict, str]:
        steps = [each.step for each in self.holders_before(request)]
        done = [e.reason for e in self.outcomes if e.result is Result.DONE and e.step in steps]
        if done:
            return Verdict.FREED, "; ".join(done)
        return Verdict.FREE, "its holder had already gone"

    def _unproven(self, request: PortRequest) -> tuple[str, ...]:
        """Which engines a port's freedom rests on, since it was not here to be bound."""
        away = self.before.snapshot.engines_elsewhere
        published = _published(self.holders_before(request))
        containers = [each.holder.container for each in published]
        return tuple(
            f"on the word of {endpoint}, asked again after the settle time: the port was not in "
            "this namespace to be bound"
            for endpoint in sorted({found.engine for found in containers if found} & away)
        )


def _has_ended(held: HolderReport) -> bool:
    """Whether a step left this holder gone."""
    return held.outcome is not None and held.outcome.result in _CHANGED


def _state(held: HolderReport) -> SocketState:
    return held.holder.state


def _published(holders: Iterable[HolderReport]) -> list[HolderReport]:
    """Those that an engine publishes, without a socket here."""
    return [each for each in holders if _state(each) is SocketState.PUBLISHED]


def _seen(held: HolderReport) -> Holder:
    """The holder as it was seen; a container that was started again is the same one.

    Whoever else runs in its project, or lives in its network, may have come and gone meanwhile.
    """
    holder = held.holder
    if holder.container is None:
        return holder
    return replace(holder, container=replace(holder.container, main_pid=0, beside=(), sharing=()))


def _owner(held: HolderReport) -> object:
    holder = held.holder
    return holder.masters or (holder.container.id if holder.container else holder.hidden)


def _name(taker: HolderReport) -> str:
    found = taker.classification
    starter = f", started by {found.chain[-2]}" if len(found.chain) > 1 else ""
    if found.manager:
        starter = f", started by {found.manager.kind} ({found.manager.name})"
    return f"{found.holder.master or found.reason}{starter}"


def _goes_on(shell: Process) -> str:
    return f"the shell {shell} goes on with what it was told: if that is a loop, it starts it again"


def _continued(earlier: PortReport | None, found: PortReport) -> PortReport:
    """A later round's report, with what happened in the rounds before it."""
    if earlier is None:
        return found
    told: tuple[str, ...] = ()
    if earlier.verdict is Verdict.RETAKEN and found.verdict in {*_FREE, Verdict.RETAKEN}:
        told = (f"it was {earlier.reason}",)
    elif earlier.verdict is Verdict.RETAKEN:  # what took it back is left alone
        reason = f"{earlier.reason}; {found.reason}"
        found = PortReport(found.request, Verdict.RETAKEN, reason, (), found.holders, found.notes)
    if found.verdict is Verdict.FREE:
        found = replace(found, verdict=Verdict.FREED)
    notes = dict.fromkeys((*earlier.notes, *told, *found.notes))
    return replace(found, holders=earlier.holders + found.holders, notes=tuple(notes))
