"""PURE: `$NAME`, `${NAME:-default}` and their like, as compose understands them.

The grammar is that of the Compose Specification's chapter "Interpolation"; where that leaves a
question open (what ends a default, that a default is worked out even where it is not needed), the
answer is that of the compose plug-in 2.26, by measurement.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    Lookup = Callable[[str], str | None]

_DEEPEST = 50  # defaults within defaults; nobody writes more than a few
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# A default ends on its own line: `.` does not match a line break.
_BRACED = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?:(:?[-+?])(.*))?\}", re.ASCII)


class Interpolated(Struct, frozen=True):
    """A text with its variables filled in.

    `unset` names those that left nothing where they stood, since they are not set, or empty. A
    default that was written down is what somebody wanted, even an empty one: it is not named.
    """

    text: str
    unset: tuple[str, ...] = ()


def interpolate(text: str, lookup: Lookup, depth: int = 0) -> Interpolated:
    """Fills in the variables of `text`.

    Args:
        text: anything; `$$` stands for `$`, and a `$` before anything but a name, `{` or `$` for
            itself.
        lookup: the value of a variable, or None where it is not set.
        depth: how many defaults this one stands in.

    Raises:
        UsageError: a brace that makes no sense, or a required variable (`?`) that is missing.
    """
    if "$" not in text:
        return Interpolated(text)
    if depth > _DEEPEST:
        raise UsageError(f"variables are nested more than {_DEEPEST} deep in {shown(text)}")
    pieces: list[str] = []
    unset: list[str] = []
    at = 0
    while (dollar := text.find("$", at)) >= 0:
        pieces.append(text[at:dollar])
        piece, at = _variable(text, dollar + 1, lookup, depth)
        pieces.append(piece.text)
        unset += piece.unset
    return Interpolated("".join(pieces) + text[at:], tuple(dict.fromkeys(unset)))


def _variable(text: str, at: int, lookup: Lookup, depth: int) -> tuple[Interpolated, int]:
    """What stands behind a `$`, and where the text goes on."""
    if text.startswith("$", at):
        return Interpolated("$"), at + 1
    if name := _NAME.match(text, at):
        return _plain(name[0], lookup), name.end()
    if not text.startswith("{", at):
        return Interpolated("$"), at
    match = _BRACED.match(text, at)
    if match is None:
        raise UsageError(f"{shown(text)} is no text with variables (a $ alone is written $$)")
    if match[2] is None:
        return _plain(match[1], lookup), match.end()
    end = _closing(text, at, match.end())
    return _conditional(match[1], match[2], text[match.start(3) : end], lookup, depth), end + 1


def _plain(name: str, lookup: Lookup) -> Interpolated:
    found = lookup(name)
    return Interpolated(found) if found else Interpolated("", (name,))


def _closing(text: str, at: int, limit: int) -> int:
    """Where the brace at `at` closes; the last one on the line where the count does not come out.

    Any `{` opens another one, and hides the character behind it: so compose counts.
    """
    deep, index = 0, at
    while index < limit:
        if text[index] == "{":
            deep, index = deep + 1, index + 2
            continue
        if text[index] == "}":
            deep -= 1
            if not deep:
                return index
        index += 1
    return limit - 1


def _conditional(name: str, operator: str, word: str, lookup: Lookup, depth: int) -> Interpolated:
    """`${NAME:-word}` and the others; the word is worked out even where it is not needed."""
    given = interpolate(word, lookup, depth + 1)
    found = lookup(name)
    present = bool(found) if operator.startswith(":") else found is not None
    kept = Interpolated(found or "")
    if operator.endswith("-"):
        return kept if present else given
    if operator.endswith("+"):
        return given if present else kept
    if not present:
        why = f": {shown(given.text)}" if given.text else ""
        raise UsageError(f"the required variable {name} is missing{why}")
    return kept


def shown(text: str) -> str:
    """The text in quotes, escaped and cut, so that it fits one line of any terminal."""
    longest = 60
    return ascii(text if len(text) <= longest else text[:longest] + "...")
