"""PURE: our block in an environment file, and what the rest of the file says of our ports.

The block is a few lines between two marks. Everything else in the file stays as it is to the byte,
whatever its line ends, its encoding and its end are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

BEGIN = b"# >>> ultra-ports >>>"
END = b"# <<< ultra-ports <<<"
REMARK = b"# written by `ultra-ports assign`; changes in here do not last"
_BOM = b"\xef\xbb\xbf"
_WIDE = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")  # UTF-16 and UTF-32
_KEY = re.compile(
    rb"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*(?:=|:(?=[ \t]))[ \t]*(.*)", re.DOTALL
)


class Parts(Struct, frozen=True):
    """An environment file around our block; `block` is None where there is none.

    The block goes from the first mark to the end of the second one; the line end behind it belongs
    to `after`.
    """

    before: bytes
    block: bytes | None = None
    after: bytes = b""


class Line(Struct, frozen=True):
    """A line that sets a variable: number from 1, key, raw value, and whether our block has it."""

    number: int
    key: str
    value: bytes
    block: bool

    @property
    def text(self) -> str:
        """The value without quotes and remarks."""
        quoted = self.value[:1] in {b'"', b"'"}
        bare = self.value if quoted else re.split(rb"(?:^|[ \t]+)#", self.value, maxsplit=1)[0]
        return bare.strip(b"\"'").decode("utf-8", "replace")

    def says(self, port: int) -> bool:
        """Whether the value holds the port: in an address, or alone where the key says so."""
        in_address = re.search(rf"(?a):{port}(?![\w@])", self.text)
        return bool(in_address) or (self.text == str(port) and self.key.endswith("PORT"))


def split(raw: bytes, path: object) -> Parts:
    """The file in parts.

    Args:
        raw: all of it.
        path: for messages.

    Raises:
        UsageError: the block is damaged, there are two of them, or the file is UTF-16.
    """
    if raw.startswith(_WIDE):
        raise UsageError(f"{path} is UTF-16 or UTF-32, which no reader of such files takes")
    marks = list(_marks(raw))
    if not marks:
        return Parts(raw)
    if [what for what, *_ in marks] != [BEGIN, END]:
        raise UsageError(
            f"{path}: {_damage(marks)}; nothing was changed",
            f"remove the lines from {BEGIN.decode()} to {END.decode()}",
        )
    (_, _, start, _), (_, _, _, end) = marks
    return Parts(raw[:start], raw[start:end], raw[end:])


def apply(raw: bytes, variables: Mapping[str, str], path: object) -> bytes:
    """The file with a block of these variables: in the place of the old one, else at the end.

    Raises:
        UsageError: as for `split`.
    """
    parts = split(raw, path)
    newline = _newline(raw if parts.block is None else parts.block)
    lines = [BEGIN, REMARK, *(f"{name}={text}".encode() for name, text in variables.items()), END]
    block = newline.join(lines)
    if parts.block is not None:
        return parts.before + block + parts.after
    gap = b"" if not raw.removeprefix(_BOM) or raw.endswith(b"\n") else newline
    return raw + gap + block + newline


def without_block(text: str) -> str:
    """The text of an environment file without our block; one that is damaged stays."""
    raw = text.encode("utf-8", "surrogateescape")
    try:
        parts = split(raw, "")
    except UsageError:
        return text
    return (parts.before + parts.after).decode("utf-8", "surrogateescape")


def values_in_block(raw: bytes, path: object) -> dict[str, str]:
    """What our block says.

    Raises:
        UsageError: as for `split`.
    """
    found = lines(raw, path)
    return {line.key: line.value.decode("utf-8", "replace") for line in found if line.block}


def lines(raw: bytes, path: object) -> tuple[Line, ...]:
    """Every line that sets a variable.

    Raises:
        UsageError: as for `split`.
    """
    parts = split(raw, path)
    first = len(parts.before)
    last = first + len(parts.block or b"")
    found = []
    for number, (start, text) in enumerate(_lines(raw), 1):
        match = _KEY.fullmatch(text)
        if match:
            ours = first <= start < last
            found.append(Line(number, match[1].decode("ascii"), match[2].rstrip(b" \t\r"), ours))
    return tuple(found)


def overrides(raw: bytes, keys: Sequence[str], path: object) -> tuple[tuple[Line, bool], ...]:
    """Lines outside of our block that set the same keys, and whether they win, as the last ones.

    Raises:
        UsageError: as for `split`.
    """
    found = lines(raw, path)
    ours = {line.key: line.number for line in found if line.block}
    return tuple(
        (line, line.number > ours.get(line.key, 0))
        for line in found
        if not line.block and line.key in keys
    )


def _lines(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """The offset of each line and its text, without the line end and the byte order mark."""
    start = len(_BOM) if raw.startswith(_BOM) else 0
    for line in raw[start:].split(b"\n"):
        yield start, line.removesuffix(b"\r")
        start += len(line) + 1


def _marks(raw: bytes) -> Iterator[tuple[bytes, int, int, int]]:
    """Each mark that stands alone on its line: which, line number, where it begins and ends."""
    for number, (start, text) in enumerate(_lines(raw), 1):
        what = text.strip(b" \t")
        if what in {BEGIN, END}:
            at = start + text.index(what)
            yield what, number, at, at + len(what)


def _damage(marks: list[tuple[bytes, int, int, int]]) -> str:
    where = ", ".join(
        f"line {number} {'begins' if what == BEGIN else 'ends'} one" for what, number, *_ in marks
    )
    return f"the block of ultra-ports is damaged, or there are two ({where})"


def _newline(raw: bytes) -> bytes:
    """That of the first line; LF where there is none."""
    first = raw.partition(b"\n")[0]
    return b"\r\n" if b"\n" in raw and first.endswith(b"\r") else b"\n"
