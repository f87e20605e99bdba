"""Patterns that are compiled late, and words for shells: the same as `re` and `shlex` have them."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver import patterns, shellwords
from resolver.patterns import pattern

ROOT = Path(patterns.__file__).parent
USERS = sorted(
    str(path.relative_to(ROOT).with_suffix("")).replace("/", ".")
    for path in ROOT.rglob("*.py")
    if "from resolver.patterns import" in path.read_text(encoding="utf-8")
)


def late(member: object) -> list[patterns._Later]:
    """The patterns in a module's constant, which may be a tuple of tuples."""
    if isinstance(member, tuple):
        return [found for each in member for found in late(each)]
    return [member] if isinstance(member, patterns._Later) else []  # noqa: SLF001


@pytest.mark.parametrize("name", USERS)
def test_every_pattern_is_one(name: str) -> None:
    module = import_module(f"resolver.{name}")
    found = [each for member in vars(module).values() for each in late(member)]
    assert found
    for each in found:
        assert each.pattern  # compiled now: a mistake would raise re.error


def test_a_pattern_is_what_re_makes_of_it() -> None:
    text = r"(?i)up \(pid (?P<pid>\d+)\)"
    match = pattern(text).match("UP (pid 42)")
    assert match is not None
    assert match["pid"] == "42"
    assert pattern(text).flags == re.compile(text).flags
    assert pattern(rb"\d+").findall(b"1 22") == [b"1", b"22"]


def test_a_mistake_shows_at_the_first_use() -> None:
    wrong = pattern("(")
    with pytest.raises(re.error):
        wrong.match("")


@given(st.lists(st.text() | st.sampled_from(["", "a b", "it's", "$HOME", "a=b", "ünï", "-n"])))
def test_words_are_quoted_as_shlex_does(words: list[str]) -> None:
    assert shellwords.join(words) == shlex.join(words)
    assert [shellwords.quote(word) for word in words] == [shlex.quote(word) for word in words]
