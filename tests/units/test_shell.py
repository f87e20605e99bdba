"""Lines to be pasted, in the shells that people paste them into."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from resolver.model import Command
from resolver.shell import quote, shell_line, shown
from tests.lab.shells import shell

if TYPE_CHECKING:
    from pathlib import Path

SHELLS = ["bash", "bash-posix", "zsh"]
WORDS = {
    "nothing": "",
    "a blank": " ",
    "a line feed": "a\nb",
    "only line feeds": "\n\n",
    "a carriage return": "a\rtouch pwned",
    "quotes": 'it\'s "quoted" `touch pwned`',
    "only a quote": "'",
    "a quote and a line feed": "'\n'",
    "a backslash": "\\",
    "a backslash and a line feed": "a\\\nb\\n\\'\\x41",
    "substitutions": "$(touch pwned) ${HOME} $HOME $'a' $((1+1)) `id` <(id)",
    "what ends a command": "; touch pwned & | && || > pwned < /dev/null ( ) { } # no",
    "patterns": "* ? [a-z] {a,b} ~ ~root !! !1 ^a^b",
    "bytes that are no text": os.fsdecode(b"\xff\xfe a\x80\nb"),
    "half a character": os.fsdecode(b"\xc3"),
    "a character in pieces": os.fsdecode(b"\xc3\n\xa9"),
    "control characters": "".join(map(chr, [*range(1, 32), *range(127, 160)])),
    "an escape and a digit": "\x017\x1b[31m7",
    "what is not seen": "\u202etxt.exe\u200b\ufeff\u2028\u2029\u00a0\u3000",
    "other scripts": "é 端口 🚢 e\u0301",
    "an option": "--force",
    "an ellipsis in a word": "a…b…",
}


def given(line: str, name: str, folder: Path) -> list[bytes]:
    """What `printf` was given by the line; nothing else has come of it."""
    before = sorted(folder.iterdir())
    done = subprocess.run(
        [*shell(name), "-c", line.encode()],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert done.stderr == b""
    assert sorted(folder.iterdir()) == before
    return done.stdout.split(b"\0")[:-1]


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize("what", WORDS)
def test_a_shell_gets_each_word_as_it_is(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / "a").touch()  # something for patterns to find
    word = WORDS[what]
    line = shell_line(Command(("printf", "%s\\0", word, "end")))
    assert line.isprintable()
    assert given(line, name, tmp_path) == [os.fsencode(word), b"end"]


@pytest.mark.parametrize("name", SHELLS)
def test_all_words_at_once_stay_apart(tmp_path: Path, name: str) -> None:
    words = tuple(WORDS.values())
    line = shell_line(Command(("printf", "%s\\0", *words)))
    assert given(line, name, tmp_path) == [os.fsencode(word) for word in words]


def test_what_is_to_be_filled_in_is_left_bare() -> None:
    assert quote("…") == "…"
    assert shell_line(Command(("docker", "run", "…", "web"))) == "docker run … web"


def test_plain_words_are_left_as_they_are() -> None:
    words = ("systemctl", "--user", "stop", "web@1.service", "a=b", "/srv/x_y-z,1:2%")
    assert shell_line(Command(words)) == " ".join(words)
    assert quote("it's") == "'it'\"'\"'s'"
    assert quote("a\n'\x1b\xff") == "$'a\\012\\047\\033\\303\\277'"


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize(
    "what",
    ["it's", "a b", "$(touch pwned)", "a\nb", os.fsdecode(b"\xff"), "-", "; touch pwned", "#", "…"],
)
def test_a_command_runs_in_its_folder(tmp_path: Path, name: str, what: str) -> None:
    folder = tmp_path / what
    folder.mkdir()
    line = shell_line(Command(("printf", "%s\\0", "x"), folder=str(folder)))
    assert given(line, name, tmp_path) == [b"x"]
    line = shell_line(Command(("sh", "-c", 'printf "%s\\0" "$PWD"'), folder=str(folder)))
    assert given(line, name, tmp_path) == [os.fsencode(folder)]


def test_without_its_folder_a_command_does_not_run(tmp_path: Path) -> None:
    line = shell_line(Command(("touch", str(tmp_path / "ran")), folder=str(tmp_path / "gone")))
    done = subprocess.run([*shell("bash"), "-c", line], capture_output=True, check=False)
    assert done.returncode != 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize(
    "comment",
    [
        "plain words",
        "a\ntouch pwned",
        "a\r\ntouch pwned\r",
        "a\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029touch pwned",
        "\\\ntouch pwned",
        "$(touch pwned) `touch pwned` ; touch pwned > pwned",
        "an open quote ' and \" and $'",
        os.fsdecode(b"\xff\n") + "touch pwned",
        "\x1b]0;gone\x07",
    ],
)
def test_a_comment_stays_one(tmp_path: Path, name: str, comment: str) -> None:
    command = Command(("printf", "%s\\0", "x"), comment=comment)
    line = shell_line(command)
    assert line.isprintable()
    assert line.startswith("printf '%s\\0' x   # ")
    assert given(line, name, tmp_path) == [b"x"]
    assert given(f"{line}\nprintf '%s\\0' next", name, tmp_path) == [b"x", b"next"]


def test_no_comment_adds_nothing() -> None:
    assert shell_line(Command(("kill", "7"))) == "kill 7"
    assert shell_line(Command(("kill", "7"), "from outside")) == "kill 7   # from outside"


@pytest.mark.parametrize("size", [4095, 4096, 4097, 100_000])
@pytest.mark.parametrize("what", ["word", "folder", "comment"])
def test_a_line_is_shown_whole_or_not_at_all(size: int, what: str) -> None:
    empty = {
        "word": Command(("kill", "x")),
        "folder": Command(("kill",), folder="x"),
        "comment": Command(("kill",), comment="x"),
    }[what]
    filler = "x" * (size - len(shell_line(empty)) + 1)
    command = {
        "word": Command(("kill", filler)),
        "folder": Command(("kill",), folder=filler),
        "comment": Command(("kill",), comment=filler),
    }[what]
    line = shell_line(command)
    assert len(line) == size
    if size <= 4096:
        assert shown(command) == line
    else:
        assert shown(command) == f"({size} characters: --json prints it)"
