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
_SEPARATORS = frozenset(";&|<>$`()\\")
# Words that a shell keeps for itself (POSIX, "Reserved Words" and "Special Built-In Utilities")
_OF_SHELLS = frozenset({
    "!", "{", "}", "[[", "case", "do", "done", "elif", "else", "esac", "fi", "for", "function",
    "if", "in", "select", "then", "time", "until", "while", "coproc", "repeat", "foreach", "end",
    ".", ":", "break", "builtin", "command", "continue", "eval", "exec", "exit", "export",
    "noglob", "nocorrect", "readonly", "return", "set", "shift", "source", "times", "trap",
    "unset",
})  # fmt: skip


def shell_line(command: Command) -> str:
    """The command as a shell takes it, with its comment behind it.

    Names of the machine's processes, containers and folders may hold anything: what cannot be
    printed stands in `$'…'`, byte by byte, as bash, zsh and ksh read it.
    """
    line = " ".join(shell_words(command))
    return f"{line}   # {printable(command.comment)}" if command.comment else line


def shell_words(command: Command) -> list[str]:
    """The words of the line, each as the shell takes it, without the comment."""
    folder = [] if command.folder is None else ["cd", quote(command.folder), "&&"]
    return [*folder, *_quoted(command.argv)]


def shown(command: Command) -> str:
    """The line for a terminal; one that is too long is not cut, since half of it does harm."""
    line = shell_line(command)
    return line if len(line) <= _LONGEST else f"({len(line)} characters: --json prints it)"


def join(words: Sequence[str]) -> str:
    """The words as one shell line; the first is a program, never the shell's own word."""
    return " ".join(_quoted(words))


def _quoted(words: Sequence[str]) -> list[str]:
    first, *others = [*map(quote, words)] or [""]
    if words and words[0] in _OF_SHELLS:
        return ["env", first, *others]
    return [f"'{first}'" if words and _assigns(words[0]) else first, *others]


def _assigns(word: str) -> bool:
    """Whether a shell would take a first word for an assignment, and it is not quoted yet."""
    return "=" in word and quote(word) == word


def quote(word: str) -> str:
    """One word of a shell line."""
    if word == _TO_BE_FILLED_IN:
        return word
    if word.isprintable():
        quoted = shlex.quote(word)
        return f"'{word}'" if quoted.startswith("=") else quoted  # zsh: =ls is a path
    try:
        text = os.fsencode(word)
    except UnicodeEncodeError:  # half a character, as JSON can hold it
        text = word.encode("utf-8", "surrogatepass")
    return "$'" + "".join(map(_byte, text)) + "'"


def printable(text: str) -> str:
    """Text behind a `#`, which a line feed would end, and which zsh at a prompt does not know."""
    return "".join(each if each.isprintable() and each not in _SEPARATORS else "?" for each in text)


def _byte(number: int) -> str:
    character = chr(number)
    plain = number < 128 and character.isprintable() and character not in "'\\"  # noqa: PLR2004 - ASCII
    return character if plain else f"\\{number:03o}"
