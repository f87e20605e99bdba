"""Lines as a terminal, or a pipe, takes them: wrapped, coloured, escaped, and without secrets."""

from __future__ import annotations

import re
import textwrap
from itertools import pairwise
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from resolver.report.escape import escape
from resolver.shell import shell_line, shell_words, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from resolver.model import Command, ProcessIdentity

_INDENT = "  "
_LONGEST = 1000  # characters of a line
_RUN = ("ultra-ports", "run")
_GOES_ON = " \\"
_LEAST = 20  # characters of a folder that is cut for the width
_LEAST_OF_COMMAND = 8  # characters, where it has one row with the rest
_NAME = r"[\w-]*(?:passw(?:or)?d|passphrase|requirepass|secret|token|api[_-]?key|credentials?)"
_HIDDEN = "***"
_BOLD, _GREEN, _YELLOW, _RED = "1", "1;32", "1;33", "1;31"
_COLOURS = {
    **dict.fromkeys(("free", "freed", "would free", "yours", "yes"), _GREEN),
    **dict.fromkeys(("held", "reserved", "warning"), _YELLOW),
}


class TextStyle(Struct, frozen=True):
    """What is written to.

    `width` is in columns; None, as for a pipe, wraps and cuts nothing. `verbose` asks for the
    evidence, too. `age_seconds` says how long ago a process started, where that is to be told.
    `again` is the command line that does what a dry run shows, empty where there is none.
    `folder` is where the reader is, whose commands need no `cd` to it; `finds` says which program
    the reader's shell would take for a name.
    """

    width: int | None = None
    colour: bool = False
    verbose: bool = False
    age_seconds: Callable[[ProcessIdentity], float] | None = None
    again: tuple[str, ...] = ()
    folder: str = ""
    finds: Callable[[str], str | None] | None = None

    def headline(self, title: str, word: str, rest: str) -> str:
        """`8085/tcp freed: ended after 0.3 s`, with the word in its colour."""
        before = f"{title} " if title else ""
        line = self.line(f"{before}{word}{rest}", "")
        start = len(before)
        if self.width and start + len(word) > self.width:
            return line
        return f"{line[:start]}{self.state(word)}{line[start + len(word) :]}"

    def line(self, text: str, indent: str = _INDENT, most: int | None = None) -> str:
        """A line below it, whose further rows are indented once more; of them `most`, if given."""
        return wrapped(escape(masked(text), _LONGEST), self.width, indent, most, breaks=True)

    def row(self, command: str, folder: str, rest: str, *, short: bool = False) -> str:
        """A command, its folder (empty if unknown) and the rest: two rows if one is too short.

        A `short` one has one row, without the folder.
        """
        if short and self.width is not None:
            room = self.width - len(f"{_INDENT}… · {rest}")
            return f"{_INDENT}{escape(masked(command), max(room, _LEAST_OF_COMMAND))} · {rest}"
        place = f"in {folder} · {rest}" if folder else rest
        line = self.line(f"{command} · {place}")
        if self.width is None or "\n" not in line:
            return line
        kept = max(self.width - len(f"{_INDENT * 2}in … · {rest}"), _LEAST)
        if len(folder) > kept:
            place = f"in …{folder[-kept:]} · {rest}"
        first = escape(masked(command), self.width - len(_INDENT) - 1)
        return f"{_INDENT}{first}\n{self.line(place, _INDENT * 2)}"

    def command(self, label: str, command: Command) -> str:
        """A line to be pasted; one that is too long goes on in rows that a shell takes as one."""
        argv = tuple(_masked(command.argv))
        remark = command.comment if argv == command.argv else f"{_HIDDEN} is in the JSON"
        folder = None if command.folder == self.folder else command.folder
        whole, start = (
            replace(command, argv=argv, comment=remark, folder=folder),
            f"{_INDENT}{label}: ",
        )
        line = shown(whole)
        if self.width and len(start + line) > self.width and line.startswith(shell_words(whole)[0]):
            called = replace(whole, argv=self._called(argv, command.folder or self.folder))
            words = shell_words(called)
            line = _continued(words, shell_line(called)[len(" ".join(words)) :], self.width, start)
        return f"{start}{self.bold(line)}"

    def _called(self, argv: tuple[str, ...], folder: str) -> tuple[str, ...]:
        """The same command, with its program as the reader's shell finds it from the folder."""
        at = argv.index("--") + 1 if argv[:2] == _RUN and "--" in argv else 0
        path = argv[at]
        inside = path.removeprefix(f"{folder}/") if folder else path
        if inside != path:
            path = inside if "/" in inside else f"./{inside}"
        elif self.finds and self.finds(name := path.rpartition("/")[2]) == path:
            path = name
        return (*argv[:at], path, *argv[at + 1 :])

    def bold(self, text: str) -> str:
        """What is to be run."""
        return self._painted(text, _BOLD)

    def state(self, word: str) -> str:
        """How it stands with a port, in its colour."""
        return self._painted(word, _COLOURS.get(word, _RED))

    def _painted(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.colour else text


def _continued(words: Sequence[str], remark: str, width: int, start: str) -> str:
    """A shell line behind its start, in rows; a remark at the end of it may well be cut."""
    first, *others = words
    rows = [start + first]
    for word in others:
        if len(rows[-1]) + 1 + len(word) + len(_GOES_ON) > width:
            rows[-1] += _GOES_ON
            rows.append(f"{_INDENT * 2}{word}")
        else:
            rows[-1] += f" {word}"
    room = width - len(rows[-1])
    if len(remark) > room:
        remark = f"{remark[: room - 1]}…" if room > _LEAST else ""
    return "\n".join(rows)[len(start) :] + remark


def wrapped(
    text: str, width: int | None, indent: str = "", most: int | None = None, *, breaks: bool = False
) -> str:
    """A line at its indent; in a width its further rows are indented once more, `most` of them.

    A word that is wider, such as a path or a URL, is left to the terminal, so that it can be
    copied, but where it `breaks`.
    """
    if width is None:
        return indent + text
    return textwrap.fill(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=f"{indent}{_INDENT}",
        break_long_words=breaks,
        break_on_hyphens=False,
        max_lines=most,
        placeholder=" …",
    )


def masked(text: str) -> str:
    """The text without what looks like a secret: `--password=…`, `TOKEN=…`, `user:…@`."""
    return " ".join(_masked(text.split(" ")))


def _masked(words: Sequence[str]) -> Iterator[str]:
    for before, word in pairwise(("", *words)):
        option = before.startswith("--") and re.fullmatch(f"--{_NAME}", before, re.IGNORECASE)
        if option and not word.startswith("-"):
            yield _HIDDEN
        elif "=" not in word and "@" not in word:
            yield word
        else:
            bare = re.sub(r"(://[^/@\s:]*:)[^/@\s]+@", rf"\1{_HIDDEN}@", word)
            value = r".+" if re.match(rf"{_NAME}=", bare, re.IGNORECASE) else r"[^\s;&|'\"]+"
            flags = re.IGNORECASE | re.DOTALL
            # from the begin of a name: from each of its letters it takes the square of its length
            yield re.sub(rf"(?<![\w-])({_NAME}=){value}", rf"\1{_HIDDEN}", bare, flags=flags)
