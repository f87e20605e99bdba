"""The planner's safety rules hold for any machine, however its holders were judged."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from resolver.model import (
    AdviseStep,
    CollateralKind,
    Confidence,
    Degree,
    KillStep,
    Kind,
    Plan,
    Policy,
    Respawn,
    SocketState,
    StopContainerStep,
    StopServiceStep,
    Whose,
)
from resolver.programs import ENGINES, FORWARDERS, SYSTEM
from resolver.shell import shell_line
from resolver.strategies.choose import choose
from tests.properties.worlds import World, worlds

policies = st.builds(
    Policy,
    force=st.booleans(),
    stop_services=st.booleans(),
    dry_run=st.booleans(),
    accept_loss=st.booleans(),
    only_mine=st.booleans(),
    take=st.booleans(),
    euid=st.sampled_from([0, 1000]),
)
pytestmark = pytest.mark.timeout(600)  # under coverage, on a busy machine
ORPHAN = Kind.ORPHAN
CALLER = CollateralKind.CALLER
NEVER = FORWARDERS | ENGINES | SYSTEM


def kills(plan: Plan) -> list[KillStep]:
    """Every step that signals, those behind a manager's among them."""
    steps = [step.then if isinstance(step, StopServiceStep) else step for step in plan.steps]
    return [step for step in steps if isinstance(step, KillStep)]


@settings(max_examples=150)
@given(worlds(), policies)
def test_no_plan_signals_what_must_live(world: World, policy: Policy) -> None:
    plan = choose(world.classifications, policy, world.own)
    for step in kills(plan):
        orphans = [p for p in plan.planned if p.step is step and p.classification.kind is ORPHAN]
        spared = {"docker-proxy"} if orphans else set()
        assert step.masters
        assert {found.identity for found in step.masters} <= {f.identity for f in step.members}
        for process in step.members:
            assert process.pid > 1
            assert process.identity not in world.own
            assert process.name not in NEVER - spared
            assert (process.executable or "").rpartition("/")[2] not in NEVER - spared
            assert process.signalable


@settings(max_examples=150)
@given(worlds(), policies)
def test_only_what_nothing_respawns_is_signalled(world: World, policy: Policy) -> None:
    for planned in choose(world.classifications, policy, world.own).planned:
        judged = planned.classification
        if isinstance(planned.step, KillStep):
            assert judged.kind in {Kind.LOCAL, Kind.SERVICE, Kind.ORPHAN, Kind.BYSTANDER}
            whole = judged.runner is not None and judged.runner in planned.step.masters
            if judged.kind is Kind.SERVICE and not (whole and policy.stop_services):
                assert (judged.respawn, judged.harm) == (Respawn.NO, "")
            if judged.kind is Kind.BYSTANDER:
                assert policy.force
                assert judged.holder.state is SocketState.CONNECTED
                assert not judged.holder.handed_over
        if isinstance(planned.step, StopServiceStep):
            assert policy.stop_services
            assert judged.kind is Kind.SERVICE
            assert judged.confidence is Confidence.CONFIRMED
            assert judged.waited or not planned.step.then
        if isinstance(planned.step, StopContainerStep):
            assert judged.kind is Kind.CONTAINER
            assert planned.step.container == judged.holder.container


@given(worlds(), policies)
def test_every_holder_has_a_step_that_covers_it(world: World, policy: Policy) -> None:
    plan = choose(world.classifications, policy, world.own)
    assert len(plan.planned) == len(world.classifications)
    for planned in plan.planned:
        assert planned.classification.holder.binding in planned.step.bindings
        if isinstance(planned.step, KillStep):
            members = {process.identity for process in planned.step.members}
            assert {p.identity for p in planned.classification.holder.processes} <= members


def _content(plan: Plan) -> list[tuple[object, ...]]:
    """What a plan is made of: steps themselves are compared by identity."""
    return [(each.classification, type(each.step), asdict(each.step)) for each in plan.planned]


@given(worlds(), policies, st.randoms(use_true_random=False))
def test_the_plan_does_not_depend_on_the_order_of_what_was_gathered(
    world: World, policy: Policy, random: object
) -> None:
    shuffled = list(world.classifications)
    getattr(random, "shuffle")(shuffled)  # noqa: B009 - hypothesis gives a random.Random
    again = choose(shuffled, policy, world.own)
    assert _content(again) == _content(choose(world.classifications, policy, world.own))


@settings(max_examples=150)
@given(worlds(), policies)
def test_what_is_known_to_be_another_checkouts_is_ended_only_as_was_said(
    world: World, policy: Policy
) -> None:
    for each in choose(world.classifications, policy, world.own).planned:
        found = each.classification.ownership
        if isinstance(each.step, AdviseStep):
            continue
        if policy.only_mine:
            assert found.whose is Whose.MINE
        elif found.whose is Whose.OTHER and found.leased:
            assert policy.take


@settings(max_examples=150)
@given(worlds(), policies)
def test_a_database_is_killed_by_no_plan(world: World, policy: Policy) -> None:
    """Whoever it is ended with: its runner, what starts it again, or another of its ports."""
    for each in choose(world.classifications, policy, world.own).planned:
        step = each.step.then if isinstance(each.step, StopServiceStep) else each.step
        if any(lost.shutdown for lost in each.classification.collateral):
            assert not isinstance(step, (KillStep, StopContainerStep)) or step.lenient


@settings(max_examples=150)
@given(worlds(), policies)
def test_a_runner_is_ended_only_where_it_was_asked_for_and_its_manager_was_asked(
    world: World, policy: Policy
) -> None:
    for planned in choose(world.classifications, policy, world.own).planned:
        judged = planned.classification
        if isinstance(planned.step, KillStep) and judged.runner in planned.step.masters:
            if judged.runner in judged.holder.processes:
                continue
            assert policy.stop_services
            assert judged.confidence is Confidence.CONFIRMED
            assert judged.runner in planned.step.members


@given(worlds(), policies)
def test_advice_always_says_why(world: World, policy: Policy) -> None:
    for step in choose(world.classifications, policy, world.own).steps:
        assert step.why
        if isinstance(step, AdviseStep) and policy.euid == 0:
            lines = [shell_line(command) for command in step.commands]
            assert not any(line.startswith("sudo system") for line in lines)


@settings(max_examples=150)
@given(worlds(), policies)
def test_what_is_somebody_elses_is_never_ended_unasked(world: World, policy: Policy) -> None:
    for planned in choose(world.classifications, policy, world.own).planned:
        lost = [e for e in planned.classification.collateral if e.degree is Degree.REFUSED]
        if isinstance(planned.step, StopServiceStep) and not planned.step.then:
            lost = [each for each in lost if each.kind is not CollateralKind.DATA]
        if isinstance(planned.step, (KillStep, StopServiceStep)) and lost:
            assert policy.accept_loss


@settings(max_examples=150)
@given(worlds(), policies)
def test_no_flag_ends_the_caller(world: World, policy: Policy) -> None:
    for planned in choose(world.classifications, policy, world.own).planned:
        lost = [e for e in planned.classification.collateral if e.kind is CALLER]
        if any(each.degree is Degree.REFUSED for each in lost):
            assert isinstance(planned.step, AdviseStep)


@settings(max_examples=150)
@given(worlds(), policies)
def test_what_goes_down_by_design_stops_nothing(world: World, policy: Policy) -> None:
    """Over-caution is a defect, too: the steps are those of a world where nothing else is lost."""
    mentioned = [
        replace(
            each,
            collateral=tuple(e for e in each.collateral if e.degree is Degree.MENTIONED),
        )
        for each in world.classifications
    ]
    bare = [replace(each, collateral=()) for each in world.classifications]
    accepting = replace(policy, accept_loss=True)
    wanted = [each.step.kind for each in choose(bare, policy, world.own).planned]
    assert [each.step.kind for each in choose(mentioned, policy, world.own).planned] == wanted
    others = [
        replace(each, collateral=tuple(e for e in each.collateral if e.kind is not CALLER))
        for each in world.classifications
    ]
    accepted = choose(others, accepting, world.own).planned
    assert [each.step.kind for each in accepted] == wanted
