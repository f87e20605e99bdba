"""The table that is printed without tabulate is the one that tabulate would print."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tabulate import tabulate

from resolver.report.escape import escape
from resolver.report.table import columns

CELL = st.text(st.characters(codec="ascii"), max_size=12).map(lambda text: escape(text).strip())


@given(
    st.integers(1, 5).flatmap(
        lambda width: st.tuples(
            st.lists(st.sampled_from(["PORT", "VERDICT", "ID"]), min_size=width, max_size=width),
            st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=1, max_size=5),
        )
    )
)
def test_columns_are_those_of_tabulate(table: tuple[list[str], list[list[str]]]) -> None:
    headers, rows = table
    theirs = tabulate(rows, headers=headers, tablefmt="plain", disable_numparse=True)
    assert columns(headers, rows) == "\n".join(line.rstrip() for line in theirs.split("\n"))
