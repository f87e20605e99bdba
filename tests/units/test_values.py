"""Values behave as frozen, slotted dataclasses do: the standard library's are the yardstick."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.values import fields_of, ordered, replace, value


@ordered
class Point:
    """A value with a default."""

    x: int
    y: int = 5

    def __str__(self) -> str:
        return f"{self.x}/{self.y}"


@dataclass(frozen=True, slots=True, order=True)
class Yardstick:
    x: int
    y: int = 5


@value
class Other:
    x: int
    y: int = 5


@value
class Alone:
    only: object


PAIRS = st.tuples(st.integers(-3, 3), st.integers(-3, 3))


@given(PAIRS, PAIRS)
def test_they_compare_hash_and_sort_as_dataclasses_do(
    one: tuple[int, int], other: tuple[int, int]
) -> None:
    ours, theirs = (Point(*one), Point(*other)), (Yardstick(*one), Yardstick(*other))
    assert (ours[0] == ours[1]) == (theirs[0] == theirs[1])
    assert (ours[0] < ours[1]) == (theirs[0] < theirs[1])
    assert (ours[0] >= ours[1]) == (theirs[0] >= theirs[1])
    assert (hash(ours[0]) == hash(ours[1])) >= (one == other)
    assert max(ours) == Point(*max(one, other))
    assert min(ours) <= max(ours)
    assert (ours[0] > ours[1]) == (one > other)


@given(PAIRS)
def test_copies_are_equal(pair: tuple[int, int]) -> None:
    made = Point(*pair)
    assert pickle.loads(pickle.dumps(made)) == made  # noqa: S301 - our own
    assert copy.deepcopy(made) == made
    assert replace(made, y=9) == Point(made.x, 9)
    assert repr(made) == repr(Yardstick(*pair)).replace("Yardstick", "Point")


def test_values_of_two_kinds_are_never_equal() -> None:
    one: object = Point(1)
    assert one != Other(1)
    assert len({Point(1), Other(1)}) == 2
    with pytest.raises(TypeError):
        _ = Point(1) < Other(1)  # type: ignore[operator]


def test_nothing_can_be_changed_or_added() -> None:
    made: Any = Point(1)
    for name in ("x", "z"):
        with pytest.raises(AttributeError):
            setattr(made, name, 2)
    with pytest.raises(AttributeError):
        del made.x
    assert not hasattr(made, "__dict__")


@pytest.mark.parametrize(
    ("given", "named"), [((), {}), ((1, 2, 3), {}), ((1,), {"x": 1}), ((1,), {"z": 1})]
)
def test_arguments_that_do_not_fit(given: tuple[int, ...], named: dict[str, int]) -> None:
    with pytest.raises(TypeError):
        Yardstick(*given, **named)
    with pytest.raises(TypeError):
        Point(*given, **named)


def test_fields_by_name_methods_and_defaults_stay() -> None:
    assert Point(y=1, x=2) == Point(2, 1)
    assert str(Point(1)) == "1/5"
    assert Point.__doc__ == "A value with a default."
    assert fields_of(Point) == fields_of(Point(1)) == ("x", "y")
    assert fields_of(Yardstick(1)) == fields_of("text") == ()
    assert Alone(1) == Alone(1) != Alone(2)
    assert hash(Alone("a")) == hash(Alone("a"))
