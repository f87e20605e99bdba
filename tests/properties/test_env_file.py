"""Whatever is in an environment file, only our block changes, and once is as good as twice."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from resolver.errors import UsageError
from resolver.reservations.export.block import (
    BEGIN,
    END,
    apply,
    lines,
    split,
    values_in_block,
    without_block,
)

pieces = st.sampled_from(
    [
        b"A=1", b"\n", b"\r\n", b"\r", b"#", b" ", b"\t", b"\0", b"\xff", b"\xef\xbb\xbf", b"'",
        b'"', b"export ", b"API_PORT=3000", b"URL=http://localhost:3000/", b"=", b":3000", b",",
        b"@", b"localhost", b"127.0.0.1", b"13000", BEGIN, END, BEGIN + b"\nX=1\n" + END, b"# >>",
    ]
)  # fmt: skip
files = st.one_of(st.binary(max_size=200), st.lists(pieces, max_size=20).map(b"".join))
variables = st.dictionaries(
    st.from_regex(r"[A-Z][A-Z_]{0,8}_PORT", fullmatch=True),
    st.integers(1, 65535).map(str),
    max_size=4,
)


def applied(raw: bytes, given: dict[str, str]) -> bytes:
    """The file with the block; a damaged one is not among the examples."""
    try:
        return apply(raw, given, ".env")
    except UsageError:
        assume(False)  # noqa: FBT003
        raise


@settings(max_examples=200)
@given(files, variables)
def test_outside_of_the_block_nothing_changes(raw: bytes, given_variables: dict[str, str]) -> None:
    new = applied(raw, given_variables)
    before, after = split(raw, ""), split(new, "")
    assert after.block is not None
    if before.block is None:
        assert new.startswith(raw)
        assert after.before[len(raw) :] in {b"", b"\n", b"\r\n"}
        assert after.after in {b"\n", b"\r\n"}
    else:
        assert (after.before, after.after) == (before.before, before.after)


@settings(max_examples=200)
@given(files, variables)
def test_twice_is_once(raw: bytes, given_variables: dict[str, str]) -> None:
    once = applied(raw, given_variables)
    assert apply(once, given_variables, "") == once


@settings(max_examples=150)
@given(files, variables, variables)
def test_the_block_says_what_it_was_told_last(
    raw: bytes, first: dict[str, str], second: dict[str, str]
) -> None:
    new = apply(applied(raw, first), second, "")
    assert values_in_block(new, "") == second
    assert new == apply(raw, second, "")


@settings(max_examples=150)
@given(files)
def test_a_file_makes_sense_or_is_refused_in_words(raw: bytes) -> None:
    try:
        found = lines(raw, ".env")
    except UsageError as error:
        assert str(error).startswith(".env")
        assert len(str(error).splitlines()) == 1
        return
    assert all(line.value in raw for line in found)
    text = raw.decode("utf-8", "surrogateescape")
    assert BEGIN.decode() not in without_block(text).splitlines() or BEGIN in raw
