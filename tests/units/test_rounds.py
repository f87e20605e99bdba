"""The decision table of a round, line by line, with plain values; and what a round asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from resolver import api, successors
from resolver.model import (
    AdviseStep,
    Binding,
    Classification,
    Container,
    Diagnosis,
    EngineState,
    Holder,
    KillStep,
    Kind,
    Manager,
    Outcome,
    Pid,
    Plan,
    Planned,
    Policy,
    PortNumber,
    PortReport,
    PortRequest,
    Process,
    ProcessIdentity,
    Proof,
    Result,
    Snapshot,
    Socket,
    SocketState,
    StopContainerStep,
    StopServiceStep,
    Transport,
    Verdict,
)
from resolver.rounds import Round
from tests.lab.ports import free_port

if TYPE_CHECKING:
    from resolver.model import Step

ROOT = Policy(euid=0)
PORT, OTHER_PORT = PortRequest(PortNumber(8080)), PortRequest(PortNumber(8081))
BINDING = Binding(Transport.TCP, "0.0.0.0", PORT.port)
BOUND = Proof(free=True)
IN_USE = Proof(free=False, reason="address already in use", where="0.0.0.0:8080")
UNTOLD = Proof(free=None, reason="this user may not bind it")
DONE, GONE, FAILED = Result.DONE, Result.GONE, Result.FAILED
DENIED, SKIPPED = Result.NOT_PERMITTED, Result.SKIPPED
FREE, FREED, HELD, RETAKEN = Verdict.FREE, Verdict.FREED, Verdict.HELD, Verdict.RETAKEN
ADVISED, REFUSED = Verdict.ADVISED, Verdict.REFUSED
HIDDEN, UNDECIDED = Verdict.HIDDEN, Verdict.UNDECIDED


def process(pid: int) -> Process:
    return Process(ProcessIdentity(Pid(pid), 1), name="server")


def local(
    pid: int, *, advice: Verdict | None = None, binding: Binding = BINDING, inode: int = 0
) -> Planned:
    """A process that listens, and is to be ended, or advised about."""
    holder = Holder(
        binding,
        SocketState.LISTENING,
        processes=(process(pid),),
        masters=(process(pid).identity,),
        inodes=frozenset({inode}),
    )
    kill = KillStep((binding,), holder.processes, holder.processes, holder.inodes, f"kill {pid}")
    step = AdviseStep((binding,), advice, f"leave {pid}") if advice else kill
    judged = Classification(
        holder, Kind.LOCAL, reason=f"server {pid}", chain=("cron", f"server {pid}")
    )
    return Planned(judged, step)


def published(container: Container, step: Step) -> Planned:
    """A port that an engine publishes, without a socket here."""
    holder = Holder(BINDING, SocketState.PUBLISHED, container=container)
    return Planned(Classification(holder, Kind.CONTAINER, reason="container web"), step)


def service(patience_seconds: float = 0.0) -> StopServiceStep:
    """Stops what a manager runs; equal steps are one."""
    manager = Manager("systemd", "web", "always", patience_seconds=patience_seconds)
    return StopServiceStep((BINDING,), manager, "stop web.service")


def forwarded(container: Container) -> Planned:
    """A container's port that its engine's forwarder listens on here."""
    planned = local(100)
    holder = replace(planned.classification.holder, container=container)
    step = StopContainerStep((BINDING,), container, "stop web")
    return Planned(replace(planned.classification, holder=holder), step)


def in_state(planned: Planned, state: SocketState) -> Planned:
    holder = replace(planned.classification.holder, state=state)
    return replace(planned, classification=replace(planned.classification, holder=holder))


HERE, AWAY = EngineState("unix:///here"), EngineState("unix:///vm", elsewhere="a virtual machine")
SILENT = replace(HERE, error="no answer within 2 s")
NO_ANSWER = Snapshot(engines=(SILENT,))
TIME_WAIT = Snapshot(sockets=(Socket(BINDING, SocketState.CLOSING, inode=0),))
WEB = Container("a" * 64, "web", engine=HERE.endpoint)
WEB_AWAY = replace(WEB, engine=AWAY.endpoint)
OLD, OLDER, NEW = local(100), local(101), local(200)
SPARED, REFUSING = local(102, advice=ADVISED), local(103, advice=REFUSED)
CONNECTION = in_state(NEW, SocketState.CONNECTED)
FORWARDED = forwarded(WEB)
STOPPED = published(WEB, StopContainerStep((BINDING,), WEB, "stop web"))
SERVED = published(WEB, service())
RESTARTING = published(replace(WEB, state="restarting"), service())
LEFT_PUBLISHED = published(WEB, AdviseStep((BINDING,), ADVISED, "leave web"))


@dataclass(frozen=True)
class Line:
    """What a round knows of the port: holders with what came of their steps, and what it means."""

    before: tuple[tuple[Planned, Result | None], ...]
    proof: Proof
    after: tuple[Planned, ...] = ()
    verdict: Verdict = FREE
    reason: str = ""
    again: bool = field(default=False, kw_only=True)
    seen_before: Snapshot = field(default_factory=Snapshot, kw_only=True)
    seen_after: Snapshot = field(default_factory=Snapshot, kw_only=True)

    @property
    def round(self) -> Round:
        """The same as the pipeline has it."""
        ends = [Outcome(each.step, end, f"is {end}") for each, end in self.before if end]
        before = Diagnosis(self.seen_before, Plan(tuple(each for each, _ in self.before)))
        after = Diagnosis(self.seen_after, Plan(self.after))
        return Round((PORT,), before, {PORT: self.proof}, tuple(ends), after)


TABLE = {
    # Nobody held it before the steps
    "nobody, bound": Line((), BOUND, (), FREE, "checked by binding it"),
    "nobody, bound, whoever came": Line((), BOUND, (NEW,), FREE, "checked by binding it"),
    "nobody, in use": Line((), IN_USE, (), HELD, "by nothing that has a process"),
    "nobody, and somebody came": Line((), IN_USE, (NEW,), HELD, "by nothing that", again=True),
    "nobody, and it cannot be told": Line((), UNTOLD, (), HIDDEN, "may not bind"),
    "nobody, by the diagnosis before": Line(
        (), IN_USE, (), UNDECIDED, "no answer", seen_before=NO_ANSWER, seen_after=TIME_WAIT
    ),
    # One was ended, and somebody has the port who did not
    "taken": Line(((OLD, DONE),), IN_USE, (NEW,), RETAKEN, "taken back by server 200", again=True),
    "taken, by whom": Line(((OLD, DONE),), IN_USE, (NEW,), RETAKEN, "started by cron", again=True),
    "taken, one had gone": Line(((OLD, GONE),), IN_USE, (NEW,), RETAKEN, again=True),
    "taken, though bound": Line(((OLD, DONE),), BOUND, (NEW,), RETAKEN, again=True),
    "taken by the same container": Line(((STOPPED, DONE),), BOUND, (STOPPED,), RETAKEN, "by cont"),
    "taken, another is left": Line(
        ((OLD, DONE), (REFUSING, None)), IN_USE, (NEW, REFUSING), RETAKEN, again=True
    ),
    "not taken: nobody was ended": Line(((OLD, FAILED),), IN_USE, (NEW,), HELD, again=True),
    "not taken: a connection": Line(((OLD, DONE),), BOUND, (CONNECTION,), FREED),
    "not taken: the other one is left": Line(
        ((OLD, DONE), (REFUSING, None)), IN_USE, (REFUSING,), REFUSED, "leave 103"
    ),
    "not taken: by the same forwarder": Line(
        ((FORWARDED, DONE),), IN_USE, (FORWARDED,), HELD, "by nothing that has a process"
    ),
    # One whom no step ended is in the way
    "left: failed": Line(((OLD, FAILED),), IN_USE, (OLD,), HELD, "is failed"),
    "left: skipped": Line(((OLD, SKIPPED),), IN_USE, (), HELD, "is skipped"),
    "left: not applied": Line(((OLD, None),), IN_USE, (), HELD, "kill 100"),
    "left: not permitted": Line(((OLD, DENIED),), IN_USE, (OLD,), HIDDEN, "is not-permitted"),
    "left: advised": Line(((SPARED, None),), IN_USE, (), ADVISED, "leave 102"),
    "left: the worst": Line(
        ((SPARED, None), (OLD, FAILED)), IN_USE, (), HELD, "leave 102; is failed"
    ),
    "left: published, though bound": Line(((LEFT_PUBLISHED, None),), BOUND, (), ADVISED),
    "not left: bound": Line(((SPARED, None),), BOUND, (), FREE, "its holder had already gone"),
    "left, in another state": Line(
        ((OLD, FAILED),), IN_USE, (in_state(OLD, SocketState.BOUND),), HELD, again=True
    ),
    # All were ended, and it cannot be bound
    "not bound": Line(((OLD, DONE),), IN_USE, (), HELD, "by nothing that has a process"),
    "not bound, cannot be told": Line(((OLD, DONE),), UNTOLD, (), HIDDEN, "may not bind"),
    "not bound, by the latest diagnosis": Line(
        ((OLD, DONE),), IN_USE, (), HELD, "TIME_WAIT", seen_before=NO_ANSWER, seen_after=TIME_WAIT
    ),
    "not bound, the latest saw no socket": Line(
        ((OLD, DONE),), IN_USE, (), HELD, "TIME_WAIT", seen_before=TIME_WAIT, seen_after=NO_ANSWER
    ),
    "not bound, a connection": Line(((OLD, DONE),), IN_USE, (CONNECTION,), HELD, again=True),
    # Bound, and who was ended had no socket here
    "engine: still published": Line(((SERVED, DONE),), BOUND, (SERVED,), HELD, "by container web"),
    "engine: so in another state": Line(
        ((SERVED, DONE),), BOUND, (RESTARTING,), HELD, "told to stop", again=True
    ),
    "engine: silent": Line(
        ((STOPPED, DONE),), BOUND, (), UNDECIDED, "once more, no answer", seen_after=NO_ANSWER
    ),
    "engine: another one is silent": Line(
        *(((published(WEB_AWAY, STOPPED.step), DONE),), BOUND, (), FREED, "is done"),
        seen_after=NO_ANSWER,
    ),
    "engine: answers": Line(
        ((STOPPED, DONE),), BOUND, (), FREED, "is done", seen_after=Snapshot(engines=(HERE,))
    ),
    "engine: not needed for a forwarder": Line(
        ((FORWARDED, DONE),), BOUND, (), FREED, "is done", seen_after=NO_ANSWER
    ),
    # Bound, and nobody is left
    "ended": Line(((OLD, DONE),), BOUND, (), FREED, "is done"),
    "ended, another had gone": Line(((OLD, GONE), (OLDER, DONE)), BOUND, (), FREED, "is done"),
    "gone": Line(((OLD, GONE),), BOUND, (), FREE, "its holder had already gone"),
    "gone, after all": Line(((OLD, FAILED),), BOUND, (), FREE, "its holder had already gone"),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_table(name: str) -> None:
    line = TABLE[name]
    found = line.round.report(PORT, ROOT)
    assert found.verdict is line.verdict
    assert line.reason in found.reason
    assert (PORT in line.round.next({PORT: found}).requests) == line.again
    ends = [each.outcome and each.outcome.result for each in found.holders]
    judged = [each.classification for each in found.holders]
    assert [*zip(judged, ends, strict=True)] == [(p.classification, end) for p, end in line.before]
    takers = [each.classification for each in found.retaken_by]
    wanted = [each.classification for each in line.after if each is not REFUSING]
    assert takers == (wanted if line.verdict is RETAKEN else [])


def test_a_port_that_was_not_here_is_freed_on_its_engines_word() -> None:
    engines = Snapshot(engines=(HERE, AWAY))
    for container, notes in ((WEB_AWAY, ["on the word of unix:///vm"]), (WEB, [])):
        stop = published(container, StopContainerStep((BINDING,), container, "stop web"))
        for end, told in ((DONE, notes), (GONE, [])):
            found = Line(((stop, end),), BOUND, seen_before=engines).round.report(PORT, ROOT)
            assert [note.partition(",")[0] for note in found.notes] == told
    here = Line(((forwarded(WEB_AWAY), DONE),), BOUND, seen_before=engines)
    assert not here.round.report(PORT, ROOT).notes


def test_connections_that_linger_are_noted() -> None:
    lingering = replace(BOUND, lingering="closed connections linger on it")
    for before in ((), ((OLD, DONE),)):
        notes = Line(before, lingering).round.report(PORT, ROOT).notes
        assert [note.partition(":")[0] for note in notes] == ["closed connections linger on it"]


def test_the_next_round_is_of_the_ports_that_it_could_help() -> None:
    other = local(300, binding=replace(BINDING, port=OTHER_PORT.port))
    before = Diagnosis(plan=Plan((OLD, other)))
    outcomes = (Outcome(OLD.step, DONE, "done"), Outcome(other.step, DONE, "done, too"))
    proofs, after = {PORT: IN_USE, OTHER_PORT: BOUND}, Diagnosis(plan=Plan((NEW,)))
    this = Round((OTHER_PORT, PORT), before, proofs, outcomes, after)
    reports = this.reports(ROOT, {})
    assert (reports[PORT].verdict, reports[OTHER_PORT].verdict) == (RETAKEN, FREED)
    assert reports[OTHER_PORT].reason == "done, too"
    assert this.next(reports) == Round((PORT,), after, proofs)


@pytest.mark.parametrize(
    ("line", "again"),
    [
        (Line(((OLD, DONE),), BOUND), False),
        (Line(((OLD, DONE),), IN_USE), True),
        (Line(((OLD, FAILED),), IN_USE), True),
        (Line(((OLD, SKIPPED),), IN_USE), False),
        (Line(((SPARED, None),), IN_USE), False),
        (Line(((OLD, DONE),), UNTOLD), False),
        (Line(((OLD, DONE),), IN_USE, seen_before=NO_ANSWER), True),
        (Line((), IN_USE), True),
        (Line((), IN_USE, seen_before=NO_ANSWER), False),
        (Line((), BOUND), False),
        (Line(((STOPPED, DONE),), BOUND), True),
        (Line(((STOPPED, FAILED),), BOUND), False),
    ],
)
def test_which_ports_are_diagnosed_again(line: Line, *, again: bool) -> None:
    assert line.round.to_diagnose == ([PORT] if again else [])


def test_the_holders_of_a_port_are_those_who_would_collide() -> None:
    loopback = replace(PORT, address="127.0.0.1")
    elsewhere = local(300, binding=replace(BINDING, address="127.0.0.2"))
    any_ipv6 = local(301, binding=replace(BINDING, address="::"))
    ipv6_only = replace(any_ipv6.classification.holder, v6only=True)
    only = replace(any_ipv6, classification=replace(any_ipv6.classification, holder=ipv6_only))
    plan = Plan((OLD, elsewhere, any_ipv6, only))
    found = Round((loopback,), Diagnosis(plan=plan), {}).holders_before(loopback)
    assert [each.step for each in found] == [OLD.step, any_ipv6.step]


def test_a_step_is_tried_for_the_ports_of_its_bindings() -> None:
    this = Line(((OLD, FAILED),), IN_USE).round
    assert (this.tried(PORT), this.tried(OTHER_PORT)) == (True, False)


def test_what_was_ended_is_remembered_in_every_later_round() -> None:
    before = ((OLD, DONE), (OLDER, GONE), (NEW, FAILED), (STOPPED, DONE))
    this = Line(before, IN_USE, seen_before=Snapshot(ended=(process(1),))).round
    assert this.ended_processes == (process(1), process(100), process(101))


def test_the_sockets_of_the_ended_should_be_gone() -> None:
    elsewhere = replace(BINDING, address="127.0.0.1")
    ends = ((local(100, inode=1), DONE), (local(100, inode=-7), GONE))  # psutil's, of no inode
    failed = (local(101, inode=2, binding=elsewhere), FAILED)
    assert Line((*ends, failed), IN_USE).round.ended_inodes == {1}


def test_the_slowest_manager_that_stopped_something_is_waited_for() -> None:
    before = ((published(WEB, service(3)), DONE), (published(WEB, service(7)), GONE))
    failed = (published(WEB, service(9)), FAILED)
    assert Line((*before, failed), IN_USE).round.patience_seconds == 7
    assert Line((), IN_USE).round.patience_seconds == 0


@pytest.mark.parametrize(
    ("earlier", "line", "told"),
    [
        (RETAKEN, Line(((OLD, DONE),), BOUND, (), FREED, "is done"), True),
        (RETAKEN, Line(((OLD, GONE),), BOUND, (), FREED, "already gone"), True),
        (RETAKEN, Line(((OLD, DONE),), IN_USE, (NEW,), RETAKEN, "taken back by server"), True),
        (RETAKEN, Line(((OLD, FAILED),), IN_USE, (), RETAKEN, "taken before; is failed"), False),
        (HELD, Line(((OLD, FAILED),), IN_USE, (), HELD, "is failed"), False),
        (HELD, Line(((OLD, GONE),), BOUND, (), FREED, "already gone"), False),
    ],
)
def test_a_later_round_tells_of_the_earlier_ones(
    earlier: Verdict, line: Line, *, told: bool
) -> None:
    first = Line(((OLDER, DONE),), BOUND).round.report(PORT, ROOT)
    before = PortReport(PORT, earlier, "taken before", first.holders, notes=("a note",))
    found = line.round.reports(ROOT, {PORT: before})[PORT]
    alone = line.round.report(PORT, ROOT)
    assert found.verdict is line.verdict
    assert line.reason in found.reason
    assert found.notes == (("a note", "it was taken before") if told else ("a note",))
    left_alone = earlier is RETAKEN and not told
    assert found.holders == first.holders + (() if left_alone else alone.holders)
    assert found.retaken_by == (alone.holders if left_alone else alone.retaken_by)


def test_where_nobody_is_to_be_ended_nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """To list every socket of the machine takes 10 µs for each."""
    looks = []

    def look() -> successors.Before:
        looks.append("before")
        return successors.Before()

    monkeypatch.setattr(successors, "before", look)
    assert api.resolve(free_port(), use_docker=False).exit_status == 0
    assert not looks
