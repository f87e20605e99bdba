r"""The `.env` grammar, as compose reads it: text → variables.

    # a comment, on a line of its own or behind a space
    export NAME=value          interpolated; "export" is allowed, and means nothing
    NAME: value                the same
    NAME='literal'             taken as it stands, over several lines if need be; \' is a quote
    NAME="a\tb ${OTHER}"        escapes and variables, over several lines if need be
    NAME                       what the environment has

The grammar is that of compose's own parser, by measurement (plug-in 2.26): `#` begins a comment
only behind a space, so `a#b` and `NAME=#b` have none.
"""

from __future__ import annotations

import re
from collections import ChainMap
from typing import TYPE_CHECKING

from resolver.errors import UsageError
from resolver.interpolation import interpolate, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

_BLANKS = "\t\v\f\r \x85\xa0"  # space that ends no line
_EXPORT = re.compile(r"export\s+")
_KEY = re.compile(rf"([\w.\-\[\]{_BLANKS}]*)([=:\n]|\Z)")
_ESCAPE = re.compile(r'\\(?:[abcfnrtv$"\\]|0\d{0,3})', re.ASCII)
_OCTAL = re.compile(r"[0-3][0-7]{2}", re.ASCII)
_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def parse(text: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that the text sets, in order.

    Args:
        text: the file's.
        environ: what interpolation may use beside the file's own variables, and first.

    Raises:
        UsageError: a line makes no sense; the message has its number.
    """
    found: dict[str, str] = {}
    known = ChainMap(dict(environ), found)
    text = text.removeprefix("\ufeff")
    at = _statement(text, 0)
    while at < len(text):
        try:
            at = _assign(text, at, found, known)
        except UsageError as error:
            line = text.count("\n", 0, at) + 1
            raise UsageError(f"line {line}: {error}") from error
        at = _statement(text, at)
    return found


def _statement(text: str, at: int) -> int:
    """Where the next statement begins: behind white space and lines of comment."""
    while at < len(text):
        if text[at] == "#":
            end = text.find("\n", at)
            at = end if end >= 0 else len(text)
        elif text[at].isspace():
            at += 1
        else:
            break
    return at


def _assign(text: str, at: int, found: dict[str, str], known: Mapping[str, str]) -> int:
    """Reads one statement into `found`; returns where it ends."""
    if export := _EXPORT.match(text, at):
        blank = export[0].find("\n")  # "export" alone on its line names nothing
        at = export.end() if blank < 0 else at + blank
    match = _KEY.match(text, at)
    if match is None:
        word = text[at:].partition("\n")[0]
        raise UsageError(f"{shown(word)} does not begin with the name of a variable and =")
    name = match[1].strip()
    if re.search(r"\s", name):
        raise UsageError(f"{shown(name)} is no name of a variable: it has a space")
    if match[2] in {"\n", ""}:
        if name in known:
            found[name] = known[name]
        return match.end()
    if not name:
        raise UsageError("there is no name before the =")
    found[name], end = _value(text, match.end(), known)
    return end


def _value(text: str, at: int, known: Mapping[str, str]) -> tuple[str, int]:
    while at < len(text) and text[at] in _BLANKS:
        at += 1
    if text[at : at + 1] in {"'", '"'}:
        return _quoted(text, at, known)
    end = text.find("\n", at)
    end = end if end >= 0 else len(text)
    plain = text[at:end].partition(" #")[0].rstrip()
    return interpolate(plain, known.get).text, end


def _quoted(text: str, at: int, known: Mapping[str, str]) -> tuple[str, int]:
    quote, index = text[at], at + 1
    kept: list[str] = []
    while index < len(text):
        mark = text[index]
        if mark == quote:
            inner = "".join(kept)
            if quote == "'":
                return inner, index + 1
            return interpolate(_ESCAPE.sub(_escape, inner), known.get).text, index + 1
        if mark == "\\":
            pair = text[index : index + 2]
            kept.append(quote if pair[1:] == quote else pair)
            index += 2
            continue
        kept.append(mark)
        index += 1
    raise UsageError(f"the quoted value {shown(text[at:].partition(chr(10))[0])} does not end")


def _escape(match: re.Match[str]) -> str:
    """What an escape in double quotes stands for; what is none stays as it is."""
    mark = match[0][1]
    if mark == "0":  # \0101 is written \101 elsewhere: three octal digits, or nothing
        digits = match[0][2:]
        return chr(int(digits, 8)) if _OCTAL.fullmatch(digits) else f"\\{digits}"
    if mark == "$":
        return "$$"  # no variable: interpolation makes it a $
    return _ESCAPED.get(mark, match[0] if mark == "c" else mark)
