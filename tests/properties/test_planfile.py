"""A plan survives its file, and any difference between two machines shows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from resolver import planfile
from resolver.errors import UsageError
from resolver.host.machine import Machine
from resolver.model import PortNumber, PortRequest, Transport
from resolver.strategies.choose import choose
from tests.properties.test_planner import policies
from tests.properties.worlds import World, worlds

HERE = Machine("a", "pid:[1]", "net:[1]")
requests = st.builds(
    PortRequest,
    st.integers(1, 65535).map(PortNumber),
    st.sampled_from(Transport),
    st.sampled_from([None, "127.0.0.1", "::1", "0.0.0.0", "::"]),
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def plans(draw: st.DrawFn) -> planfile.PlanFile:
    """A plan for a made-up machine."""
    world, policy = draw(worlds()), draw(policies)
    wanted = draw(st.lists(requests, unique=True, max_size=4))
    return planfile.describe(wanted, policy, choose(world.classifications, policy, world.own), HERE)


@given(plans())
def test_round_trip(plan: planfile.PlanFile) -> None:
    text = planfile.write(plan)
    assert planfile.read(text) == plan
    assert text.isascii()
    assert planfile.write(planfile.read(text)) == text


@given(plans())
def test_a_plan_fits_itself_and_no_other_machine(plan: planfile.PlanFile) -> None:
    assert planfile.changes(planfile.read(planfile.write(plan)), plan) == ""
    assert planfile.other_machine(plan, HERE) == ""
    for part in Machine.__struct_fields__:
        assert planfile.other_machine(plan, replace(HERE, **{part: "b"}))


@given(worlds(), policies, st.data())
def test_any_change_is_told(world: World, policy: Any, data: st.DataObject) -> None:  # noqa: ANN401
    """A holder more, one less, or one that is another."""
    assume(world.classifications)
    judged = list(world.classifications)
    before = planfile.describe([], policy, choose(judged, policy, world.own), HERE)
    at = data.draw(st.integers(0, len(judged) - 1))
    other = judged.pop(at)
    if data.draw(st.booleans()):
        inodes = other.holder.inodes | {data.draw(st.integers(100, 200))}
        judged.insert(at, replace(other, holder=replace(other.holder, inodes=inodes)))
        assume(other.holder.container is None)  # its sockets come and go with its forwarders
    after = planfile.describe([], policy, choose(judged, policy, world.own), HERE)
    for changed in (planfile.changes(before, after), planfile.changes(after, before)):
        assert changed
        assert "\n" not in changed


@given(plans(), st.data())
def test_a_damaged_file_is_a_usage_error_or_another_plan(
    plan: planfile.PlanFile, data: st.DataObject
) -> None:
    """Whatever a part of it is replaced with: no other exception comes out of it."""
    document = json.loads(planfile.write(plan))
    place: Any = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        assume(keys)
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(anything)
    try:
        found = planfile.read(json.dumps(document))
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        planfile.changes(found, plan)


@given(st.text() | anything.map(json.dumps))
def test_anything_else_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        planfile.read(text)
