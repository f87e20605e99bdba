"""Lines as a terminal, or a pipe, takes them: wrapped, coloured, escaped, and without secrets."""

from __future__ import annotations

import re
import textwrap
from itertools import pairwise
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from resolver.report.escape import escape
from resolver.shell import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from resolver.model import Command, ProcessIdentity

_INDENT = "  "
_LONGEST = 1000  # characters of a line
_LEAST = 20  # characters of a folder that is cut for the width
_NAME = r"[\w-]*(?:passw(?:or)?d|passphrase|requirepass|secret|token|api[_-]?key|credentials?)"
_HIDDEN = "***"
_BOLD, _GREEN, _YELLOW, _RED = "1", "1;32", "1;33", "1;31"
_COLOURS = {
    **dict.fromkeys(("free", "freed", "would free", "yours"), _GREEN),
    **dict.fromkeys(("held", "reserved"), _YELLOW),
}


class TextStyle(Struct, frozen=True):
    """What is written to.

    `width` is in columns; None, as for a pipe, wraps and cuts nothing. `verbose` asks for the
    evidence, too. `age_seconds` says how long ago a process started, where that is to be told.
    `again` is the command line that does what a dry run shows, empty where there is none.
    """

    width: int | None = None
    colour: bool = False
    verbose: bool = False
    age_seconds: Callable[[ProcessIdentity], float] | None = None
    again: tuple[str, ...] = ()

    def headline(self, title: str, word: str, rest: str) -> str:
        """`8085/tcp freed: ended after 0.3 s`, with the word in its colour."""
        line = self.line(f"{title} {word}{rest}", "")
        start = len(title) + 1
        if self.width and start + len(word) > self.width:
            return line
        painted = self._painted(word, _COLOURS.get(word, _RED))
        return f"{line[:start]}{painted}{line[start + len(word) :]}"

    def line(self, text: str, indent: str = _INDENT) -> str:
        """A line below it, whose further rows are indented once more."""
        rows = escape(masked(text), _LONGEST)
        if self.width is None:
            return indent + rows
        further = f"{indent}{_INDENT}"
        fill = textwrap.TextWrapper(self.width, indent, further, break_on_hyphens=False).fill
        return fill(rows)

    def row(self, command: str, folder: str, rest: str) -> str:
        """A command, its folder (empty if unknown) and the rest: two rows if one is too short."""
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
        """A line to be pasted, which only the terminal itself may wrap."""
        argv = tuple(_masked(command.argv))
        remark = command.comment if argv == command.argv else f"{_HIDDEN} is in the JSON"
        words = replace(command, argv=argv, comment=remark)
        return f"{_INDENT}{label}: {self._painted(shown(words), _BOLD)}"

    def _painted(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.colour else text


def masked(text: str) -> str:
    """The text without what looks like a secret: `--password=…`, `TOKEN=…`, `user:…@`."""
    return " ".join(_masked(text.split(" ")))


def _masked(words: Sequence[str]) -> Iterator[str]:
    for before, word in pairwise(("", *words)):
        if re.fullmatch(rf"--{_NAME}", before, re.IGNORECASE) and not word.startswith("-"):
            yield _HIDDEN
        else:
            bare = re.sub(r"(://[^/@\s:]*:)[^/@\s]+@", rf"\1{_HIDDEN}@", word)
            value = r".+" if re.match(rf"{_NAME}=", bare, re.IGNORECASE) else r"[^\s;&|'\"]+"
            flags = re.IGNORECASE | re.DOTALL
            yield re.sub(rf"({_NAME}=){value}", rf"\1{_HIDDEN}", bare, flags=flags)
