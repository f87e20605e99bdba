"""Commands for people to paste: each word quoted for itself, so that none can become another."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.model import Command

_LONGEST = 4096  # characters of a line that anybody would paste
_TO_BE_FILLED_IN = "…"


def shell_line(command: Command) -> str:
    """The command as a shell takes it, with its comment behind it.

    Names of the machine's processes, containers and folders may hold anything: what cannot be
    printed stands in `$'…'`, byte by byte, as bash, zsh and ksh read it.
    """
    line = join(command.argv)
    if command.folder is not None:
        line = f"cd {quote(command.folder)} && {line}"
    return f"{line}   # {printable(command.comment)}" if command.comment else line


def shown(command: Command) -> str:
    """The line for a terminal; one that is too long is not cut, since half of it does harm."""
    line = shell_line(command)
    return line if len(line) <= _LONGEST else f"({len(line)} characters: --json prints it)"


def join(words: Sequence[str]) -> str:
    """The words as one shell line."""
    return " ".join(map(quote, words))


def quote(word: str) -> str:
    """One word of a shell line."""
    if word == _TO_BE_FILLED_IN:
        return word
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + "".join(map(_byte, os.fsencode(word))) + "'"


def printable(text: str) -> str:
    """Text behind a `#`, which a line feed would end."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _byte(number: int) -> str:
    character = chr(number)
    plain = number < 128 and character.isprintable() and character not in "'\\"  # noqa: PLR2004 - ASCII
    return character if plain else f"\\{number:03o}"
