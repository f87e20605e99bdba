"""Whatever a word holds, bash gets exactly its bytes, and nothing else comes of the line."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from resolver.model import Command
from resolver.shell import shell_line, shown
from tests.lab.shells import shell

# What a process can be given: any bytes but NUL (execve(2)), as Python decodes them, or any text
raw = st.binary(max_size=30).map(lambda given: os.fsdecode(given.replace(b"\0", b"\1")))
text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
tricky = st.lists(
    st.sampled_from(["'", '"', "\\", "$", "`", "(", ")", "\n", "\r", "!", "#", ";", " ", "7", "x"]),
    max_size=20,
).map("".join)
words = st.one_of(raw, text, tricky)


def bash(line: str) -> tuple[bytes, list[str]]:
    """What the line prints in bash, and the files that it leaves where it ran."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*shell("bash"), "-c", line.encode()],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            capture_output=True,
            timeout=30,
            check=True,
        )
        assert done.stderr == b""
        return done.stdout, sorted(each.name for each in Path(folder).iterdir())


@settings(max_examples=150)
@given(st.lists(words, min_size=1, max_size=5))
@example(["", "\n", "'", "\udcff", "\x017", "$(touch x)"])
def test_bash_gets_exactly_the_bytes(given_words: list[str]) -> None:
    line = shell_line(Command(("printf", "%s\\0", *given_words)))
    assert line.isprintable()
    expected = b"".join(os.fsencode(word) + b"\0" for word in given_words)
    assert bash(line) == (expected, [])


@settings(max_examples=120)
@given(st.one_of(text, tricky, st.text(st.characters(codec=None), max_size=30)))
@example("\ntouch x")
@example("\udcff\u2028\x85touch x")
def test_a_comment_never_leaves_its_line(comment: str) -> None:
    line = shell_line(Command(("printf", "%s\\0", "x"), comment=comment))
    assert line.isprintable()
    assert len(line.splitlines()) == 1
    assert bash(f"{line}\nprintf next") == (b"x\0next", [])


@settings(max_examples=150)
@given(
    st.lists(st.one_of(words, words.map(lambda word: word * 200)), min_size=1, max_size=3),
    st.one_of(st.none(), words),
    words,
)
def test_what_is_shown_is_never_a_part(
    given_words: list[str], folder: str | None, why: str
) -> None:
    command = Command(tuple(given_words), why, folder)
    line = shell_line(command)
    whole = len(line) <= 4096
    assert shown(command) == (line if whole else f"({len(line)} characters: --json prints it)")
