"""Whatever a process calls itself, one printable line of bounded length reaches the terminal."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from resolver.report.escape import escape


@given(st.text(st.characters(codec=None)), st.integers(1, 300))
@example("\x1b]0;gone\x07", 200)
@example("next-server (v1\n", 200)
@example("\u202etxt.exe", 200)
@example("\udcff", 200)
def test_escaped_text_is_printable_and_bounded(text: str, longest: int) -> None:
    shown = escape(text, longest)
    assert shown.isprintable()
    assert len(shown) <= 10 * (longest + 1)
    shown.encode()


@given(st.text(st.characters(categories=["L", "N", "P", "S"], max_codepoint=0xFFFF), max_size=200))
def test_printable_text_is_left_as_it_is(text: str) -> None:
    assert escape(text) == text
