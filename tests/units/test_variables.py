"""The variables of `.env`, as python-dotenv reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.errors import UsageError
from resolver.project.variables import parse

ENVIRON = {"GIVEN": "given"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("# A=1\n\nB=2 # two\r\nC=3#c\n", {"B": "2", "C": "3#c"}),
        ("\ufeffexport A = 1", {"A": "1"}),
        ("A='1\n# kept'\nB=\"a\\tb\"\nC=", {"A": "1\n# kept", "B": "a\tb", "C": ""}),
        ("A=1\nB=${A}${C:-3}${GIVEN}\nA=2", {"A": "2", "B": "13given"}),
        ("GIVEN=1\nA=${GIVEN}", {"GIVEN": "1", "A": "given"}),
        ("B=1\nA=2", {"B": "1", "A": "2"}),
        ("A=\udcff", {"A": "\udcff"}),
    ],
)
def test_variables(text: str, found: dict[str, str]) -> None:
    assert list(parse(text, ENVIRON).items()) == list(found.items())


@pytest.mark.parametrize("text", ["NAME: 1", "A B=1", "A='a", "=1", "A='x''y'", "\x1b \x1b=1"])
def test_the_line_that_makes_no_sense_is_named(text: str) -> None:
    with pytest.raises(UsageError, match=r"^line 4: expected NAME=value, not ") as caught:
        parse(f"A='1\n2'\n# fine\n{text}\n", {})
    assert str(caught.value).isprintable()


@given(st.text(alphabet=st.characters(codec="utf-8")) | st.text(alphabet="A=1'\"\\${}:-\n# "))
def test_any_text_is_variables_or_bad_input(text: str) -> None:
    try:
        found = parse(text, {})
    except UsageError as error:
        assert str(error).isprintable()
        assert len(str(error)) < 200
    else:
        assert all(isinstance(value, str) for value in found.values())
